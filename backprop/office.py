"""Calculate or print workbooks with a spreadsheet program, without its window."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

# LibreOffice opens strangers' files: no macros, no links, and a proxy that does not exist.
SETTINGS = {
    "Office.Common/Security/Scripting": {
        "DisableMacrosExecution": ("boolean", "true"),
        "DisableActiveContent": ("boolean", "true"),
    },
    "Office.Calc/Content/Update": {"Link": ("short", "2")},  # never
    "Inet/Settings": {
        "ooInetProxyType": ("int", "2"),
        "ooInetHTTPProxyName": ("string", "127.0.0.1"),
        "ooInetHTTPProxyPort": ("int", "9"),
        "ooInetHTTPSProxyName": ("string", "127.0.0.1"),
        "ooInetHTTPSProxyPort": ("int", "9"),
        "ooInetNoProxy": ("string", ""),
    },
}


def program() -> str | None:
    """Return the path of LibreOffice, or None."""
    return shutil.which("soffice") or shutil.which("libreoffice")


def engine() -> str | None:
    """Return the program that `calculate` uses, LibreOffice or else Gnumeric, or None."""
    return "LibreOffice" if program() else "Gnumeric" if shutil.which("ssconvert") else None


def calculate(workbooks: list[Path], folder: Path, timeout=100) -> list[Path]:
    """Calculate workbooks, in one run, and save them to `folder` as .xlsx.

    Raises a RuntimeError if that cannot be done, or not within `timeout` seconds.
    """
    if program():
        return convert("xlsx", workbooks, folder, timeout)
    folder.mkdir(exist_ok=True)
    made = [folder / workbook.name for workbook in workbooks]
    for workbook, path in zip(workbooks, made, strict=True):
        command = ["ssconvert", "--recalc", "-T", "Gnumeric_Excel:xlsx2", str(workbook), str(path)]
        _run(command, "Gnumeric", [path], timeout / len(workbooks))
    return made


def convert(kind: str, workbooks: list[Path], folder: Path, timeout=180) -> list[Path]:
    """Open workbooks, calculate every cell that has no value, and save them to `folder` as `kind`.

    `kind` is a file name ending that LibreOffice knows, such as pdf or xlsx. Raises a
    RuntimeError if that cannot be done, or not within `timeout` seconds.
    """
    made = [folder / f"{workbook.stem}.{kind}" for workbook in workbooks]
    run(["--convert-to", kind, "--outdir", str(folder), *map(str, workbooks)], made, timeout)
    return made


def run(arguments: list[str], made: list[Path], timeout: float) -> None:
    """Run LibreOffice with our own settings, and check that it has made its files."""
    with tempfile.TemporaryDirectory() as profile:
        Path(profile, "user").mkdir()
        Path(profile, "user", "registrymodifications.xcu").write_text(_settings())
        own = f"-env:UserInstallation={Path(profile).as_uri()}"
        _run([program(), own, "--headless", *arguments], "LibreOffice", made, timeout)


def _run(command: list[str], name: str, made: list[Path], timeout: float) -> None:
    """Run a program in a process group of its own, and check that it has made its files."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            _, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # the processes that it has started
            process.kill()
            errors = f"it took longer than {timeout:g} seconds"
    if not all(path.exists() for path in made):
        raise RuntimeError(f"{name} could not convert: {errors.strip()}")


def _settings() -> str:
    """Return `SETTINGS` as LibreOffice stores them in a profile."""
    lines = (
        f'<item oor:path="/org.openoffice.{path}"><prop oor:name="{name}" oor:op="fuse" '
        f'oor:type="xs:{kind}"><value>{value}</value></prop></item>'
        for path, settings in SETTINGS.items()
        for name, (kind, value) in settings.items()
    )
    namespaces = (
        'xmlns:oor="http://openoffice.org/2001/registry" '
        'xmlns:xs="http://www.w3.org/2001/XMLSchema"'
    )
    return f"<oor:items {namespaces}>{''.join(lines)}</oor:items>"
