"""How nbgrader makes the release, grades what comes back, and writes the feedback."""

import os
import sys
from pathlib import Path

# nbgrader calls `alembic` as a program, which an environment that is not activated would not find.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

c = get_config()  # noqa: F821, which nbgrader puts there


# Of what students hand in, nothing may take the place of the course's own code.
c.CourseDirectory.ignore = [
    *(".ipynb_checkpoints", "__pycache__", "*.pyc", ".git", "feedback"),
    *("s4lib", "backprop", "notebooks"),
]

c.Execute.timeout = 240  # seconds a cell: recalculating a workbook takes some
c.OverwriteCells.add_missing_cells = True  # a check that was deleted is put back
