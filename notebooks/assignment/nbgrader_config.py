"""Configure how nbgrader makes the release, grades submissions, and writes the feedback."""

import os
import sys
from pathlib import Path

# The deadline, in local time: `report` names students who handed in later.
due = ""  # as in "2026-12-01 23:59"

# nbgrader runs the program `alembic`, which is not found if the environment is not activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

course = Path(__file__).parent
home = next(p for p in course.parents if (p / "notebooks/assignment/submission.py").exists())
sys.path.insert(0, str(home))

c = get_config()  # noqa: F821, nbgrader defines it

# No file that students hand in may replace the course's own code.
c.CourseDirectory.ignore = [
    *(".ipynb_checkpoints", "__pycache__", "*.pyc", ".git", "feedback"),
    *("s4lib", "backprop", "notebooks"),
]

# `zip_collect` takes the archive that Moodle or Canvas makes of all submissions. Moodle calls files
# "Jane Doe_4711_assignsubmission_file_/part1.ipynb", Canvas "doejane_LATE_4711_815_part1.ipynb".
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\]extracted[/\\](?:[^/\\]+[/\\])??(?P<student_id>[^/\\]+?_\d+)_"
    r"(?:assignsubmission_file_?[/\\]?|\d+_)(?P<file_id>.+)"
)
c.FileNameCollectorPlugin.valid_ext = [".ipynb", ".xlsx", ".json", ".pt", ".py", ".txt", ".csv"]

if "autograde" in sys.argv:  # nbgrader has no other place for code that runs before it looks
    from nbgrader.preprocessors import (
        AssignLatePenalties,
        CheckCellMetadata,
        LimitOutput,
        OverwriteCells,
        OverwriteKernelspec,
    )

    from notebooks.assignment.nbgrader_steps import Grade, SaveGrades, prepare

    c.CourseDirectory.submitted_directory = prepare(course)
    c.Autograde.sanitize_preprocessors = [OverwriteKernelspec, OverwriteCells, CheckCellMetadata]
    c.Autograde.autograde_preprocessors = [
        *(Grade, LimitOutput, SaveGrades, AssignLatePenalties, CheckCellMetadata)
    ]
