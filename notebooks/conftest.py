"""Under pytest the notebooks run small, with data that needs no download, in this environment.

Set S4_DATASET, S4_EPOCHS and S4_IMAGES yourself to run them large.
"""

import os
import shutil
from pathlib import Path

collect_ignore = ["assignment"]  # tests/test_assignment.py runs these, as nbgrader does

SMALL = {"S4_DATASET": "digits", "S4_EPOCHS": "1", "S4_IMAGES": "200", "S4_SLIDERS": "no"}

for name, value in SMALL.items():
    os.environ.setdefault(name, value)


def pytest_configure(config):
    # A run of an earlier test, perhaps with another version of torch, can't be resumed.
    for run in Path(__file__).parent.glob("runs/notebook-*-digits-1-*"):
        shutil.rmtree(run, ignore_errors=True)
    if hasattr(config.option, "nbval_sanitize_with"):
        sanitizer = Path(__file__).with_name("sanitize.cfg")
        config.option.nbval_sanitize_with = config.option.nbval_sanitize_with or str(sanitizer)
        config.option.nbval_current_env = True
