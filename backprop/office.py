"""LibreOffice without its window: recalculate a workbook, or take pictures of its sheets."""

import shutil
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


def convert(kind: str, workbooks: list[Path], folder: Path) -> list[Path]:
    """Open workbooks, calculate every cell anew, and save them to `folder` as `kind`.

    `kind` is a file name ending that LibreOffice knows, such as pdf or xlsx. Raises RuntimeError
    if LibreOffice makes no file, subprocess.TimeoutExpired if it takes longer than three minutes.
    """
    with tempfile.TemporaryDirectory() as profile:
        settings = Path(profile, "user", "registrymodifications.xcu")
        settings.parent.mkdir()
        settings.write_text(RECALCULATE)
        done = subprocess.run(
            [
                *(program(), f"-env:UserInstallation={Path(profile).as_uri()}", "--headless"),
                *("--convert-to", kind, "--outdir", str(folder), *map(str, workbooks)),
            ],
            capture_output=True,
            text=True,
            timeout=180,
        )
    made = [folder / f"{workbook.stem}.{kind}" for workbook in workbooks]
    if not all(path.exists() for path in made):
        raise RuntimeError(f"LibreOffice could not convert: {done.stderr.strip()}")
    return made


def screenshots(workbook: Path, folder: Path, dpi: int = 150) -> list[Path]:
    """A PNG of every printed page of `workbook`, in order."""
    (pdf,) = convert("pdf", [workbook], folder)
    subprocess.run(["pdftoppm", "-r", str(dpi), "-png", pdf, folder / "page"], check=True)
    return sorted(folder.glob("page-*.png"))
