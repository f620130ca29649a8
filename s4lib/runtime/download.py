"""Download, check and unpack MNIST's files."""

import contextlib
import gzip
import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import atomic_write, read

MD5 = {  # of the unpacked files, whose checksums torchvision does not test
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
SILENCE = 20  # after which the next mirror is tried


def read_mnist(root: Path) -> dict[str, bytes]:
    """Return MNIST's four files, unpacked; those missing from `root`, packed or not, are
    downloaded.

    They are stored in `root/MNIST/raw`, as torchvision does, unless that can't be written, as on
    Kaggle. Raises UsageError for a damaged file, OSError if one can't be downloaded.
    """
    files = {name: read_checked(find(root, name), MD5[name]) for name in MD5}
    missing = [name for name in files if not files[name]]
    if missing:
        from torchvision.datasets import MNIST  # a second of import that most runs don't need

        md5 = {name.removesuffix(".gz"): md5 for name, md5 in MNIST.resources}
        packed = {name: read_checked(find(root, f"{name}.gz"), md5[name]) for name in missing}
        for name in missing:
            content = packed[name] or download(MNIST.mirrors, f"{name}.gz", md5[name])
            files[name] = gzip.decompress(content)
        raw = root / "MNIST" / "raw"
        with contextlib.suppress(OSError, UsageError):
            raw.mkdir(parents=True, exist_ok=True)
            for name in missing:
                atomic_write(raw / name, files[name])
    return files


def find(root: Path, name: str) -> Path:
    """Return a file's path: in torchvision's layout, flat, or in that of Kaggle's data set."""
    kaggle = name.replace("-idx", ".idx")  # next to folders of the usual names
    flat = [root / name, root / kaggle, root / name / name, root / kaggle / kaggle]
    usual = root / "MNIST" / "raw" / name
    return next((path for path in flat if path.is_file()), usual)


def read_checked(path: Path, md5: str) -> bytes:
    """Return a file's content, or None if it is missing. Raises UsageError for a wrong checksum."""
    if not path.exists():
        return b""
    content = read(path)
    if not is_whole(content, md5):
        raise UsageError(
            f"{path} is damaged: its checksum is not MNIST's.\n"
            "Delete it and run again: it will be unpacked or downloaded again."
        )
    return content


def is_whole(content: bytes, md5: str) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == md5


def download(mirrors: list[str], name: str, md5: str) -> bytes:
    """Return a file from the first mirror that delivers it. Raises OSError with all reasons."""
    reasons = []
    for mirror in mirrors:
        asked = Request(mirror + name, headers={"User-Agent": "s4lib"})  # some reject urllib's own
        try:
            with urlopen(asked, timeout=SILENCE) as answer:
                content = answer.read()
            if is_whole(content, md5):
                return content
            reasons.append("its checksum is not MNIST's")
        except (OSError, HTTPException) as error:
            reasons.append(str(error) or type(error).__name__)
    raise OSError(f"no mirror delivers {name}: {'; '.join(reasons) or 'none is known'}")
