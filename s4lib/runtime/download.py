"""MNIST's files: checked, unpacked, downloaded."""

import contextlib
import io
import shutil
import socket
from pathlib import Path

from torchvision.datasets import MNIST
from torchvision.datasets.utils import check_integrity

from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import atomic_write

PACKED_MD5 = dict(MNIST.resources)
UNPACKED_MD5 = {  # torchvision checks the packed files when it downloads, and these never
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
LARGEST_FILE = 50_000_000  # bytes; the training images have 47,040,016


def check_files(raw: Path) -> None:
    """Compare every MNIST file in `raw`, packed or not, with its checksum.

    Raises UsageError for one that differs.
    """
    for name, md5 in {**UNPACKED_MD5, **PACKED_MD5}.items():
        path = raw / name
        if path.exists() and (path.stat().st_size > LARGEST_FILE or not check_integrity(path, md5)):
            raise UsageError(
                f"{path} is damaged: its checksum is not MNIST's.\n"
                "Delete it and run again: it will be unpacked or downloaded afresh."
            )


def fetch_mnist(raw: Path, scratch: Path) -> Path:
    """Unpack the files that are packed in `raw`, download the others, and say where they are.

    All of it happens in `scratch`, so that no half-written file ever bears a final name. The
    result is kept in `raw` unless that can't be written (Kaggle's input folders can't). Raises
    OSError or RuntimeError if a file can't be downloaded.
    """
    fetched = scratch / "MNIST" / "raw"
    fetched.mkdir(parents=True)
    for name in PACKED_MD5:
        if (raw / name).exists():
            shutil.copy(raw / name, fetched)
    download(scratch)
    with contextlib.suppress(OSError, UsageError):
        raw.mkdir(parents=True, exist_ok=True)
        for name in UNPACKED_MD5:
            atomic_write(raw / name, (fetched / name).read_bytes())
    return fetched


def download(scratch: Path) -> None:
    """Have torchvision fetch and unpack what is missing, from the first mirror that delivers all.

    torchvision's own loop over the mirrors ends when one falls silent in the middle of a file.
    """
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds of silence; torchvision sets no limit
    try:
        for mirror in MNIST.mirrors:
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # older versions tell of every try
                    type("MNIST", (MNIST,), {"mirrors": [mirror]})(scratch, download=True)
                return
            except (OSError, RuntimeError):
                if mirror == MNIST.mirrors[-1]:
                    raise
    finally:
        socket.setdefaulttimeout(timeout)
