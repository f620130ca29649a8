"""Data sets for the tests: small stand-ins, and the real MNIST in `$S4_DATA` or `data/`."""

import gzip
import hashlib
import os
import signal
import struct
from pathlib import Path

import hypothesis
import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: each computes with one thread
    os.environ["OMP_NUM_THREADS"] = "1"

# A background job of a shell ignores Ctrl-C, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("patient", deadline=None)  # other work may slow the machine
hypothesis.settings.load_profile("patient")

# torch is imported below, where it is needed: the process that only hands out tests never does.
LONGEST = [
    *("playground", "network_sheet", "assignment", "backprop_build", "hostile", "photos"),
    *("2_architectural_basics", "notebooks", "grade", "zoo_networks", "3_experiments"),
    *("1_backpropagation", "workbook", "student_workbook", "identity", "resume", "workbook_zoo"),
    *("processes", "part2", "cli"),
]


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="kill and attack for longer")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that the last to be finished is a short one."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem.removeprefix("test_"), len(rank)))


@pytest.fixture(autouse=True)
def plain_parameters(monkeypatch):
    """Notebooks in the same session get theirs from the environment (notebooks/conftest.py)."""
    for name in ("RECIPE", "DATASET", "EPOCHS", "SEED", "SLIDERS", "IMAGES"):
        monkeypatch.delenv(f"S4_{name}", raising=False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def digits():
    from s4lib import data

    return data.load("digits")


@pytest.fixture(scope="session")
def mnist():
    root = Path(os.environ.get("S4_DATA") or Path(__file__).parents[1] / "data")
    if not any((root / "MNIST" / "raw").glob("train-images-idx3-ubyte*")):
        pytest.skip("needs MNIST: in data/, or where S4_DATA points")
    from s4lib import data

    return data.load("mnist", root)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the format of MNIST's files."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """A folder with four packed files like MNIST's, of 40 and 20 images, with checksums to fit."""
    from torchvision.datasets import MNIST

    from s4lib.runtime import download

    rng = np.random.default_rng(0)
    raw = tmp_path / "served" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    packed_md5, unpacked_md5 = {}, {}
    for part, count in (("train", 40), ("t10k", 20)):
        for name, array in (
            (f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28), np.uint8)),
            (f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8)),
        ):
            content = idx(array)
            packed = gzip.compress(content, mtime=0)
            (raw / f"{name}.gz").write_bytes(packed)
            unpacked_md5[name] = hashlib.md5(content).hexdigest()
            packed_md5[f"{name}.gz"] = hashlib.md5(packed).hexdigest()
    monkeypatch.setattr(download, "MD5", unpacked_md5)
    monkeypatch.setattr(MNIST, "resources", list(packed_md5.items()))
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody answers
    return tmp_path / "served"
