"""LibreOffice without its window: calculate workbooks, or print them."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path


def program() -> str | None:
    """Where LibreOffice is, or None."""
    return shutil.which("soffice") or shutil.which("libreoffice")


def convert(kind: str, workbooks: list[Path], folder: Path, timeout=180) -> list[Path]:
    """Open workbooks, calculate every cell that has no value, and save them to `folder` as `kind`.

    `kind` is a file name ending that LibreOffice knows, such as pdf or xlsx. Raises a
    RuntimeError if that cannot be done, or not within `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as profile:
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
