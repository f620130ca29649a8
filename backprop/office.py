"""LibreOffice without its window: recalculate a workbook, or take pictures of its sheets."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

# A file that Excel wrote is recalculated on opening only if LibreOffice is told so.
RECALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load">
<prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
</oor:items>
"""


def program() -> str | None:
    """Where LibreOffice is, or None."""
    return shutil.which("soffice") or shutil.which("libreoffice")


def convert(kind: str, workbooks: list[Path], folder: Path, timeout=180) -> list[Path]:
    """Open workbooks, calculate every cell anew, and save them to `folder` as `kind`.

    `kind` is a file name ending that LibreOffice knows, such as pdf or xlsx. Raises a
    RuntimeError if that cannot be done, or not within `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as profile:
        settings = Path(profile, "user", "registrymodifications.xcu")
        settings.parent.mkdir()
        settings.write_text(RECALCULATE)
        command = [
            *(program(), f"-env:UserInstallation={Path(profile).as_uri()}", "--headless"),
            *("--convert-to", kind, "--outdir", str(folder), *map(str, workbooks)),
        ]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes, start_new_session=True) as process:
            try:
                _, said = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
                process.kill()
                said = f"it took longer than {timeout} seconds"
    made = [folder / f"{workbook.stem}.{kind}" for workbook in workbooks]
    if not all(path.exists() for path in made):
        raise RuntimeError(f"LibreOffice could not convert: {said.strip()}")
    return made


def screenshots(workbook: Path, folder: Path, dpi: int = 150) -> list[Path]:
    """A PNG of every printed page of `workbook`, in order."""
    (pdf,) = convert("pdf", [workbook], folder)
    subprocess.run(["pdftoppm", "-r", str(dpi), "-png", pdf, folder / "page"], check=True)
    return sorted(folder.glob("page-*.png"))
