"""MNIST's files: checked, unpacked, downloaded."""

import contextlib
import hashlib
import io
import shutil
import socket
from pathlib import Path

from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import atomic_write, read

MD5 = {  # of the unpacked files, which torchvision never checks
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def check_files(raw: Path, md5: dict[str, str]) -> None:
    """Compare the files in `raw`, as far as they are there, with their checksums.

    Raises UsageError for one that differs, or can't be read.
    """
    for path in (raw / name for name in md5 if (raw / name).exists()):
        if hashlib.md5(read(path), usedforsecurity=False).hexdigest() != md5[path.name]:
            raise UsageError(
                f"{path} is damaged: its checksum is not MNIST's.\n"
                "Delete it and run again: it will be unpacked or downloaded afresh."
            )


def fetch_mnist(raw: Path, scratch: Path) -> Path:
    """Unpack the files that are packed in `raw`, download the others, and say where they are.

    All of it happens in `scratch`, so that no half-written file ever bears a final name. The
    result is kept in `raw` unless that can't be written (Kaggle's input folders can't). Raises
    UsageError for a damaged file, OSError or RuntimeError if one can't be downloaded.
    """
    from torchvision.datasets import MNIST  # a second of import that most runs don't need

    packed = dict(MNIST.resources)
    check_files(raw, packed)
    fetched = scratch / "MNIST" / "raw"
    fetched.mkdir(parents=True)
    for name in packed:
        if (raw / name).exists():
            shutil.copy(raw / name, fetched)
    download(MNIST, scratch)
    with contextlib.suppress(OSError, UsageError):
        raw.mkdir(parents=True, exist_ok=True)
        for name in MD5:
            atomic_write(raw / name, (fetched / name).read_bytes())
    return fetched


def download(mnist: type, scratch: Path) -> None:
    """Have torchvision fetch and unpack what is missing, from the first mirror that delivers all.

    torchvision's own loop over the mirrors ends when one falls silent in the middle of a file.
    """
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds of silence; torchvision sets no limit
    try:
        for mirror in mnist.mirrors:
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # older versions tell of every try
                    type("MNIST", (mnist,), {"mirrors": [mirror]})(scratch, download=True)
                return
            except (OSError, RuntimeError):
                if mirror == mnist.mirrors[-1]:
                    raise
    finally:
        socket.setdefaulttimeout(timeout)
