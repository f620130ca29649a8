"""Hundreds of damaged files and senseless arguments: each gets a clear line, and nothing more.

Every case ends with exit status 0 and an answer, or with 2 and one or two lines; it does not
hang and changes no file. `pytest --long` tries twenty times as many.
"""

import copy
import hashlib
import io
import json
import os
import pickle
import random
import string
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST

from s4lib import CLASSIC, MNISTNet, Recipe, UsageError, data, fit
from s4lib import __main__ as cli
from s4lib.recipes import settings
from s4lib.runtime.checkpoint import SHIPPED_WEIGHTS, pack
from tests.faults import QUICK, end, few_digits
from tests.strokes import draw

ROOT = Path(__file__).parents[1]
SLOWEST = 10  # seconds of computing

needs_posix = pytest.mark.skipif(
    os.name == "nt", reason="Windows has no pipes among the files, and does not tell peak memory"
)


@pytest.fixture
def many(request):
    """Return how many cases there are for a number of short ones."""
    return lambda count: count * (20 if request.config.getoption("--long") else 1)


@pytest.fixture
def rng(request):
    return random.Random(request.node.name)


@pytest.fixture
def few(digits, monkeypatch):
    monkeypatch.setattr(data, "load_digits", lambda: few_digits(digits, 60, 20))


@pytest.fixture(autouse=True)
def one_parser(monkeypatch):
    """One parser serves all of the thousand commands, because making it takes time."""
    made = cli.parser()
    monkeypatch.setattr(cli, "parser", lambda: made)


def files(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size < 10**6
    }


def answer(capsys, *words, lines=2):
    """Status, output and complaint of a command that must end well or clearly."""
    before = files(Path.cwd())
    capsys.readouterr()
    sys.stderr.reconfigure(errors="backslashreplace")  # as Python's own is, outside pytest
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    bars = ("loss=", "\r")
    said = [line for line in captured.err.splitlines() if line and not line.startswith(bars)]
    assert status in (0, 2), words
    assert bool(said) == (status == 2), (words, said)
    assert len(said) <= lines, (words, said)
    assert "Traceback" not in captured.err
    after = files(Path.cwd())
    assert {path: after.get(path) for path in before} == before, words
    return status, captured.out, said, after.keys() - before.keys()


def damage(content: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, repeated, or with a piece of itself or of noise put in."""
    kind, at = rng.randrange(6), rng.randrange(len(content) + 1)
    end = min(len(content), at + rng.randrange(1, 65))
    if kind == 0:
        return content[:at]
    if kind == 1:
        flipped = bytearray(content)
        for _ in range(rng.randrange(1, 9)):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 2:
        return content[:at] + rng.choice([b"\0", b"\xff", b"\x7f\xff"]) * 8 + content[at + 8 :]
    if kind == 3:
        return content[:end] + content[at:]
    if kind == 4:
        return content[:at] + rng.randbytes(end - at) + content[end:]
    return content[:at] + content[end:]


def picture(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, depth, colour, pixels: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", pixels)


def test_damaged_and_odd_pictures(here, capsys, rng, many):
    """480 cases, 40 at a time: each file has a line of its own, on one stream or the other."""
    exif = Image.Exif()
    exif[0x0112] = 6
    three = draw(3, (60, 80), 7)
    seeds = [
        picture(three, "PNG"),
        picture(three.convert("P"), "PNG"),
        picture(draw(3, (60, 80), 7, ink=(0, 0, 0, 255), paper=(0, 0, 0, 0)), "PNG"),
        picture(three, "JPEG", exif=exif),
        picture(three, "JPEG", progressive=True),
        *(picture(three, kind) for kind in ("BMP", "GIF", "WEBP", "TIFF")),
    ]
    for _ in range(many(12)):
        names = [f"{number:02}.png" for number in range(40)]
        for name in names[:30]:
            Path(name).write_bytes(damage(rng.choice(seeds), rng))
        for name in names[30:]:
            size = rng.choice([1, 2, 3, 28, 97]), rng.choice([1, 2, 5, 28, 301])
            mode = rng.choice(["1", "L", "LA", "RGB", "RGBA", "I;16"])
            kind = np.uint16 if mode == "I;16" else np.uint8
            noise = np.frombuffer(rng.randbytes(size[0] * size[1] * kind().itemsize), kind)
            image = Image.fromarray(noise.reshape(size[1], size[0]))
            (image if mode == "I;16" else image.convert(mode)).save(name)
        _, out, said, new = answer(capsys, "predict", *names, lines=40)
        lines = [*out.splitlines(), *said]
        for name in names:
            assert sum(name in line for line in lines) == 1, name
        assert not new


def test_damaged_weights(here, capsys, rng, many):
    """150 cases. A flipped bit of a number makes other weights, which give an answer."""
    draw(3, (60, 80), 7).save("three.png")
    whole = SHIPPED_WEIGHTS.read_bytes()
    for _ in range(many(150)):
        Path("weights.pt").write_bytes(damage(whole, rng))
        status, out, said, new = answer(capsys, "predict", "three.png", "--weights", "weights.pt")
        assert out.startswith("three.png: ") if status == 0 else "weights.pt" in said[0]
        assert not new


def leaves(thing, path=()):
    """The paths to all values in nested containers."""
    items = thing.items() if isinstance(thing, dict) else enumerate(thing)
    for key, value in items:
        if isinstance(value, dict | list | tuple) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def with_other(thing, path, value):
    """A copy of nested containers with the value at `path` replaced."""
    key, *rest = path
    new = with_other(thing[key], rest, value) if rest else value
    if isinstance(thing, tuple):
        return (*thing[:key], new, *thing[key + 1 :])
    changed = copy.copy(thing)
    changed[key] = new
    return changed


RESUME = ("train", "--recipe", "classic", "--dataset", "digits", "--device", "cpu", "--out", "run")


@pytest.fixture
def resumed(digits, here, capsys, monkeypatch):
    """Status and complaint of the command that finds this checkpoint in `run`."""
    monkeypatch.setattr(cli, "load", lambda *_: few_digits(digits, 60, 20))
    monkeypatch.setitem(cli.RECIPES, "classic", QUICK)
    monkeypatch.setattr(cli.plots, "model_loss", lambda *_: None)  # drawing takes long
    monkeypatch.setattr(cli.plots, "save_figure", lambda *_: None)
    Path("run").mkdir()

    def resume(content):
        for file in Path("run").iterdir():
            file.unlink()
        Path("run", "checkpoint.pt").write_bytes(content)
        status, _, said, new = answer(capsys, *RESUME)
        assert {path.name for path in new} <= {".lock"} or status == 0
        return status, " ".join(said)

    return resume


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """The checkpoint of a finished run on few digits."""
    folder = tmp_path_factory.mktemp("hostile")
    fit(MNISTNet, few_digits(digits, 60, 20), QUICK, 0, "cpu", folder)
    return folder / "checkpoint.pt"


def sealed(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


def test_damaged_checkpoints(finished, resumed, rng, many):
    """60 cases, half of them with a checksum to fit the damage."""
    whole = finished.read_bytes()
    for number in range(many(60)):
        content = damage(whole[32:], rng)
        if content == whole[32:]:
            continue
        status, said = resumed(sealed(content) if number % 2 else whole[:32] + content)
        if number % 2 == 0:
            assert (status, "is damaged. Delete run" in said) == (2, True)
        assert status == 0 or "checkpoint.pt is" in said or "holds a run with" in said


def test_crafted_checkpoints(finished, resumed, rng, many):
    """60 cases whose checksum is right, with one value that is not."""
    state = end(finished.parent)
    state["history"] = json.dumps(state["history"])
    assert resumed(sealed(pack(state)))[0] == 0
    paths = list(leaves(state))
    top = [path for path in paths if len(path) == 1]
    for _ in range(many(60)):
        path = rng.choice(top if rng.random() < 0.5 else paths)
        other = rng.choice([{}, [], "text", torch.zeros(2, 3, 5), torch.zeros(0)])
        status, said = resumed(sealed(pack(with_other(state, path, other))))
        assert status == 0 or "is not a checkpoint" in said, (path, other, said)


VALUES = (
    *("", " ", "-", "--", "0", "-1", "1", "7", "1e9", "1e-400", "nan", "inf", "-inf", "0x10", "١٢"),
    *("9" * 30, "9" * 5000, "a" * 300, "meta", "cuda:99", "cpu:1", "mps", "classic", "digits"),
    *("auto", ".", "..", "/", "/dev/null", "/dev/full", "/proc/self/mem", "missing/deeper", "pipe"),
    *("a file", "a file/below", "a folder", "\udcff", "%s", "{}", "$x^$", "\n", "*", "~", "😀"),
)


def senseless(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(VALUES)
    letters = string.printable + "äé😀\udc80"
    return "".join(rng.choice(letters) for _ in range(rng.randrange(12)))


@needs_posix
def test_senseless_arguments(few, here, capsys, rng, many, monkeypatch):
    """350 cases. What makes sense by chance gets as far as training, and no further."""

    def trained(*_):
        raise UsageError("This would train.")

    monkeypatch.setattr(cli, "fit", trained)
    monkeypatch.setenv("S4_DATA", "nowhere")
    monkeypatch.setattr(MNIST, "mirrors", [])
    Path("a file").write_text("kept")
    Path("a folder").mkdir()
    os.mkfifo("pipe")
    draw(3, (60, 80), 7).save("three.png")
    for _ in range(many(350)):
        command = rng.choice([*cli.COMMANDS])
        words = [command]
        options = [word for word in cli.COMMANDS[command][2].split() if word != "images"]
        for option in rng.sample(options, min(len(options), rng.randrange(1, 4))):
            words.append(option)
            if option != "--show":
                words.append(senseless(rng))
        if command == "predict":
            words.insert(1, rng.choice(["three.png", "pipe", senseless(rng)]))
        if command == "summary":
            words.append(senseless(rng))
        if command == "evaluate" and rng.random() < 0.9:
            words += ["--weights", rng.choice(["a file", "pipe", "missing"])]  # drawing takes long
        _, _, _, new = answer(capsys, *words, lines=len(words))  # predict: one a file
        assert {path.name for path in new} <= {"seen.png", "confusion_matrix.png", "mistakes.png"}


def outcome(make, *args, **options):
    """Return what is made, or the complaint."""
    try:
        return make(*args, **options)
    except UsageError as error:
        return str(error)


def test_notebook_parameters_and_recipes(rng, many):
    """500 cases, in the notebook's first cells."""
    odd = [None, "", 0, -1, 1.5, True, 2**70, "7", "x", [], {}, float("nan"), b"1", object(), "١"]
    names = ("recipe", "dataset", "epochs", "seed")
    for _ in range(many(300)):
        given = {name: rng.choice(odd) for name in rng.sample(names, rng.randrange(1, 5))}
        made = outcome(settings, **given)
        if isinstance(made, str):
            assert "\n" not in made
            continue
        recipe, dataset, seed = made
        assert recipe.epochs >= 1
        assert dataset in data.DATASETS
        assert 0 <= seed < 2**63
    for _ in range(many(200)):
        field, value = rng.choice(["epochs", "batch_size", "lr"]), rng.choice(odd)
        made = outcome(Recipe, **{**vars(CLASSIC), field: value})
        assert made.startswith(field) if isinstance(made, str) else getattr(made, field) > 0


@needs_posix
@pytest.mark.parametrize("kind", ["damaged", "folder", "pipe", "link", "huge"])
def test_what_is_no_data_file_is_named(kind, tiny_mnist, here, capsys, rng):
    """Beside three that are whole; test_data.py has files that are cut, changed and swapped."""
    raw, secret = tiny_mnist / "MNIST" / "raw", here / "secret"
    secret.write_text("kept")
    path = rng.choice(sorted(raw.glob("*.gz")))
    content = path.read_bytes()
    path.unlink()
    if kind == "damaged":
        path.write_bytes(damage(content, rng) + b"!")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(secret)
    else:
        with open(path, "wb") as file:
            file.truncate(10**11)  # of nothing: it takes no room
    for name in ("auto", "mnist"):
        words = ("train", "--dataset", name, "--data", tiny_mnist, "--out", "out")
        status, _, said, new = answer(capsys, *words)
        assert status == 2
        assert "is damaged" in said[0] or "Can't read" in said[0]
        assert all(unpacked.parent == raw and not unpacked.suffix for unpacked in new)


# Bombs


class Zeros:
    """A pickle of forty bytes that asks for a terabyte."""

    def __reduce__(self):
        return bytearray, (10**12,)


def deflated() -> bytes:
    """torch's archive, 200 MB of zeros, packed."""
    buffer, content = io.BytesIO(), pack({"fc.weight": torch.zeros(50_000_000)})
    old, new = (
        zipfile.ZipFile(io.BytesIO(content)),
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED),
    )
    with old, new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def asks_for_zeros() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Zeros(), 2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


@needs_posix
def test_bombs_need_little_memory_and_time(here):
    """They run in a process of its own, which reports the most memory that it ever had."""
    big, scan = 9_999, b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + bytes(20)
    grey16 = zlib.compress(bytes((1 + 2 * big) * big), 1)
    Path("grey16.png").write_bytes(png(big, big, 16, 0, grey16) + chunk(b"IEND", b""))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**9 // 4), 1))
    Path("text.png").write_bytes(png(9, 9, 8, 0, zlib.compress(bytes(90)), text))
    Path("gigapixel.png").write_bytes(png(2**31 - 1, 2**31 - 1, 8, 6, zlib.compress(b"")))
    jpeg = picture(draw(3, (60, 80), 7), "JPEG", progressive=True)
    Path("scans.jpg").write_bytes(jpeg[:-2] + scan * 5000 + jpeg[-2:])
    Path("deflated.pt").write_bytes(deflated())
    Path("zeros.pt").write_bytes(asks_for_zeros())
    with open("huge.pt", "wb") as file:
        file.truncate(10**12)
    draw(3, (60, 80), 7).save("three.png")
    done = subprocess.run(
        [sys.executable, "-c", BOMBS],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.splitlines()[-1])  # KiB
    assert peak < 2 * 1024 * 1024
    complaints = done.stderr.splitlines()
    for name in ("grey16.png", "gigapixel.png", "scans.jpg", "deflated.pt", "zeros.pt", "huge.pt"):
        assert sum(name in line for line in complaints) == 1, (name, complaints)
    assert not any("Traceback" in line for line in complaints)


BOMBS = f"""
import resource, signal
from pathlib import Path
from s4lib.__main__ import main
for path in sorted(Path().glob("*.[jp][np]g")):
    signal.setitimer(signal.ITIMER_PROF, {SLOWEST})
    main(["predict", str(path)])
for path in sorted(Path().glob("*.pt")):
    signal.setitimer(signal.ITIMER_PROF, {SLOWEST})
    assert main(["predict", "three.png", "--weights", str(path)]) == 2
# ru_maxrss would also count the parent's memory before exec
status = Path("/proc/self/status")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if status.exists():
    peak = next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line)
print(peak)
"""


class Trap:
    """A pickle that would make a folder when loaded."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("dump", [pickle.dumps, pack])
def test_pickles_execute_nothing(dump, here, resumed, capsys):
    content = dump({"fc.weight": Trap(), "config": Trap()})
    status, said = resumed(sealed(content))
    assert (status, "is not a checkpoint" in said) == (2, True)
    draw(3, (60, 80), 7).save("three.png")
    Path("weights.pt").write_bytes(content)
    status, _, said, _ = answer(capsys, "predict", "three.png", "--weights", "weights.pt")
    assert (status, "is not a file of weights" in said[0]) == (2, True)
    assert not Path("executed").exists()
