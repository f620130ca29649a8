"""A run that was stopped, however it was, ends with the bits of a run that never was.

`pytest --long` kills training at 500 moments rather than 20.
"""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s4lib import UsageError, checkpoint
from s4lib import __main__ as cli
from s4lib.checkpoint import SLOTS, begun, load_weights, lock, newest
from s4lib.recipes import BEST, CLASSIC
from s4lib.train import fit
from tests.faults import QUICK, alike, few_digits

ROOT = Path(__file__).parents[1]
BATCHES = 5  # an epoch, so that there are checkpoints after 2 and 4 of them


class Killed(BaseException):
    """Ends a run as a kill would: nobody catches it."""


@pytest.fixture
def few(digits, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 2)
    return few_digits(digits)


def stop_after(monkeypatch, saves):
    """Have the run die right after it has saved so many checkpoints."""
    save = checkpoint.Checkpoint.save

    def last_save(self):
        save(self)
        if self.number == saves:
            raise Killed

    monkeypatch.setattr(checkpoint.Checkpoint, "save", last_save)


def train(dataset, folder, recipe=QUICK, resume=False):
    return fit(recipe, dataset, 0, "cpu", folder, resume)


def stopped(dataset, folder, saves, recipe=QUICK):
    """A folder with a run that has died after so many checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, saves)
        with pytest.raises(Killed):
            train(dataset, folder, recipe)
    return folder


def end(folder):
    return newest(folder)[0]


@pytest.mark.parametrize("recipe", [CLASSIC, BEST])  # FAST is BEST without the plain epochs
def test_the_end_is_the_same_after_a_stop_at_any_checkpoint(few, recipe, tmp_path):
    recipe = replace(recipe.adjusted(epochs=2, batch_size=40), plain=min(recipe.plain, 1))
    model, run = train(few, tmp_path / "never", recipe)
    saves = 1 + 2 * (BATCHES // 2 + 1)
    assert end(tmp_path / "never")["number"] == saves - 1
    for at in range(1, saves + 1):
        folder = stopped(few, tmp_path / f"after {at}", at, recipe)
        torch.rand(at)  # wherever the generators are when it goes on
        again, history = train(few, folder, recipe, resume=True)
        for key, value in model.state_dict().items():
            assert value.equal(again.state_dict()[key]), (at, key)
        for one, other in zip(run.epochs, history.epochs, strict=True):
            assert replace(one, seconds=0) == replace(other, seconds=0)
        assert alike(end(tmp_path / "never"), end(folder)), at
        for file in ("weights.pt", "history.json"):
            assert (folder / file).exists()


def test_a_checkpoint_has_all_that_decides_the_rest_of_a_run(few, tmp_path):
    """Each left out in turn, the end is another: so each is there, and each is put back."""
    recipe = QUICK
    train(few, tmp_path / "never")
    middle = stopped(few, tmp_path / "middle", 8)
    path = max((middle / name for name in SLOTS if (middle / name).exists()), key=os.path.getmtime)
    state = end(middle)
    assert state["batch"] == 2
    fresh = end(stopped(few, tmp_path / "fresh", 1))

    def change(key):
        changed = dict(state)
        if key in state["parts"]:
            changed["parts"] = {**state["parts"], key: fresh["parts"][key]}
        elif key in ("random", "loss_sum"):
            changed["everyone"] = [{**state["everyone"][0], key: fresh["everyone"][0][key]}]
        else:
            changed[key] = fresh[key]
        return changed

    for key in ("model", "optimizer", "schedule", "random", "loss_sum", "order", "lr"):
        content = checkpoint.pack(change(key))
        for name in SLOTS:
            (middle / name).unlink(missing_ok=True)
        checkpoint.save(path, checkpoint.hashlib.sha256(content).digest() + content)
        train(few, middle, recipe, resume=True)
        assert not alike(end(tmp_path / "never"), end(middle)), key


def test_kills_at_random_moments_lose_nothing(tmp_path, request):
    moments = 500 if request.config.getoption("--long") else 20
    command = [sys.executable, "-m", "tests.faults", tmp_path, "--moments", str(moments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, writing, runs = map(int, re.findall(r"\d+", done.stdout))
    assert kills >= moments
    assert 0 < writing < kills
    assert runs > 0


def test_a_killed_program_goes_on_by_the_command_line(tmp_path):
    """As a person does it, with nothing but --resume."""
    options = ["--recipe", "classic", "--dataset", "digits", "--device", "cpu"]
    options += ["--epochs", "2", "--batch-size", "240"]
    assert cli.main(["train", *options, "--out", str(tmp_path / "never")]) == 0

    def start(*words):
        command = [sys.executable, "-m", "s4lib", "train", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        environment["PYTHONPATH"] = str(ROOT)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)

    killed = start(*options, "--out", "killed")
    for line in killed.stdout:
        if line.startswith("Epoch 2"):
            break
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    resumed = start("--resume", "killed")
    assert "Epoch 1" not in resumed.communicate()[0]
    assert resumed.returncode == 0
    assert alike(end(tmp_path / "never"), end(tmp_path / "killed"))
    assert (tmp_path / "killed" / "modelloss.png").exists()


# What a disk can do


def newer_and_older(folder):
    return sorted((folder / name for name in SLOTS), key=os.path.getmtime, reverse=True)


@pytest.mark.parametrize("saves", [3, 4])
def test_a_damaged_checkpoint_is_told_and_the_one_beside_it_used(few, saves, tmp_path, capsys):
    train(few, tmp_path / "never")
    generator = torch.Generator().manual_seed(saves)
    folder = stopped(few, tmp_path / "run", saves)
    newer, older = newer_and_older(folder)
    whole = newer.read_bytes()
    old = older.read_bytes()

    def at_random():
        return int(torch.randint(len(whole), (), generator=generator))

    damages = [whole[: at_random()] for _ in range(10)] + [b"", whole + b"more"]
    for _ in range(20):
        flipped = bytearray(whole)
        flipped[at_random()] ^= 1 << int(torch.randint(8, (), generator=generator))
        damages.append(bytes(flipped))
    for content in damages:
        newer.write_bytes(content)
        state, damaged = newest(folder)
        assert damaged == [newer]
        assert state["number"] == saves - 2

    capsys.readouterr()
    train(few, folder, resume=True)
    said = f"{newer} is damaged: going on from the checkpoint beside it."
    assert said in capsys.readouterr().out.splitlines()
    assert alike(end(tmp_path / "never"), end(folder))

    newer.write_bytes(whole[:-1])
    older.write_bytes(old[:-1])
    with pytest.raises(UsageError, match="no whole checkpoint"):
        train(few, folder, resume=True)
    assert newer.read_bytes() == whole[:-1]


def test_a_full_disk_stops_with_a_line_and_loses_nothing(few, tmp_path, monkeypatch):
    """The kernel refuses to make the file larger, as on a disk that is full."""
    train(few, tmp_path / "never")
    folder = stopped(few, tmp_path / "run", 3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save, (soft, hard) = checkpoint.save, resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1000, 100_000):

        def limited_save(path, content, size=size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            try:
                save(path, content)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        monkeypatch.setattr(checkpoint, "save", limited_save)
        with pytest.raises(UsageError, match=r"Can't write .*checkpoint.*File too large"):
            train(few, folder, resume=True)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.setattr(checkpoint, "save", save)
    train(few, folder, resume=True)
    assert alike(end(tmp_path / "never"), end(folder))


def test_a_folder_that_becomes_read_only_stops_with_a_line(few, tmp_path, monkeypatch):
    train(few, tmp_path / "never")
    calls = []

    def read_only_after_four(path, mode):
        calls.append(mode)
        if calls.count("wb") > 4:
            raise OSError(30, "Read-only file system")
        return open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "open", read_only_after_four, raising=False)
        with pytest.raises(UsageError, match=r"Can't write .* \(Read-only file system\)"):
            train(few, tmp_path / "run")
    train(few, tmp_path / "run", resume=True)
    assert alike(end(tmp_path / "never"), end(tmp_path / "run"))


# What people do


def test_two_processes_do_not_train_into_one_folder(few, tmp_path):
    folder = stopped(few, tmp_path / "run", 3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"locked\n"
    for resume in (True, False):
        with pytest.raises(UsageError, match="Another process is at work in"):
            train(few, folder, resume=resume)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    holder.kill()
    holder.communicate()
    train(few, folder, resume=True)  # the lock has died with its process


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("error", "refused"), [(errno.EACCES, True), (errno.ENOLCK, False)])
def test_locks_on_windows_and_where_there_are_none(few, tmp_path, monkeypatch, error, refused):
    """A stand-in for Windows' module, that finds the file locked, or a disk that knows no locks."""

    def locking(handle, mode, count):
        raise OSError(error, "no")

    stand_in = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setattr(checkpoint, "fcntl", None)
    monkeypatch.setattr(checkpoint, "msvcrt", stand_in, raising=False)
    if refused:
        with pytest.raises(UsageError, match="Another process is at work in"):
            train(few, tmp_path)
    else:
        train(few, tmp_path)


def test_a_run_that_ends_badly_gives_its_folder_free(few, tmp_path):
    with pytest.raises(UsageError, match="smaller lr"):
        train(few, tmp_path, replace(QUICK, lr=1e30))
    lock(tmp_path).close()


def test_ctrl_c_at_any_point_leaves_a_run_to_go_on_with(few, tmp_path):
    """By the clock, and the last whole epoch's network and history are handed over."""
    train(few, tmp_path / "never")
    folder, runs = tmp_path / "run", []
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for wait in (0.05, 0.11, 0.17, 0.23, 0.29, 0.35):
            signal.setitimer(signal.ITIMER_REAL, wait)
            try:
                model, run = train(few, folder, resume=checkpoint.has_checkpoint(folder))
            except KeyboardInterrupt:
                continue  # before training, or after it
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            runs.append(run)
            if run.epochs:
                weights = load_weights(folder / "weights.pt").state_dict()
                for key, value in model.state_dict().items():
                    assert value.equal(weights[key]), key
                written = json.loads((folder / "history.json").read_text())
                assert len(written["epochs"]) == len(run.epochs)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert runs
    train(few, folder, resume=checkpoint.has_checkpoint(folder))
    assert alike(end(tmp_path / "never"), end(folder))


def test_ctrl_c_before_training_is_one_line(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load", interrupted)
    words = ["train", "--dataset", "digits", "--out", str(tmp_path / "run")]
    assert cli.main(words) == cli.INTERRUPTED
    assert capsys.readouterr().err == "Stopped.\n"


@pytest.fixture
def unfinished(few, tmp_path):
    return stopped(few, tmp_path / "run", 3)


def test_another_recipe_seed_data_set_or_code_is_refused_and_named(
    few, unfinished, monkeypatch, tmp_path
):
    before = {path.name: path.read_bytes() for path in unfinished.iterdir()}

    def refusal(recipe=QUICK, dataset=few, seed=0):
        with pytest.raises(UsageError) as caught:
            fit(recipe, dataset, seed, "cpu", unfinished, resume=True)
        assert {path.name: path.read_bytes() for path in unfinished.iterdir()} == before
        return str(caught.value).splitlines()[0].removeprefix(f"The run in {unfinished} was ")

    assert refusal(replace(QUICK, lr=0.02)) == "begun with lr 0.01, not 0.02."
    assert refusal(replace(QUICK, batch_size=40)) == "begun with batch_size 20, not 40."
    assert refusal(replace(QUICK, name="mine", rotation=9)) == (
        "begun with name classic, not mine; rotation 7, not 9."
    )
    assert refusal(seed=1) == "begun with seed 0, not 1."
    renamed = replace(few, name="more digits")
    assert refusal(dataset=renamed) == "begun with data set scikit-learn digits, not more digits."
    changed = (few.train[0].clone(), few.train[1])
    changed[0][7, 0, 14, 14] ^= 1
    assert refusal(dataset=replace(few, train=changed)).startswith("begun with its contents ")
    monkeypatch.setattr(torch, "__version__", "2.0")
    assert refusal().endswith(", not 2.0.")
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint, "SOURCES", ("model",))
    assert refusal().startswith("begun with code of s4lib ")


def test_the_command_line_takes_what_is_not_given_from_the_run(
    digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(cli, "load", lambda *_: few_digits(digits))
    folder = str(tmp_path / "run")
    assert (
        cli.main(["train", "--out", folder, "--recipe", "classic", "--epochs", "1", "--seed", "3"])
        == 0
    )
    assert begun(Path(folder))[2] == 3
    resume = ["train", "--resume", folder]
    assert cli.main(resume) == 0  # finished: nothing is left to do
    assert cli.main([*resume, "--epochs", "1", "--seed", "3", "--batch-size", "128"]) == 0
    capsys.readouterr()
    for option, value, name, was in (
        ("--epochs", "2", "epochs", "1"),
        ("--seed", "4", "seed", "3"),
        ("--batch-size", "64", "batch_size", "128"),
        ("--lr", "0.5", "lr", "0.01"),
    ):
        assert cli.main([*resume, option, value]) == 2
        assert f"was begun with {name} {was}, not {value}." in capsys.readouterr().err
    assert cli.main(["train", "--out", folder]) == 2
    assert f"--resume {folder}" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "empty folder", "a file"])
def test_there_must_be_a_run_to_go_on_with(kind, tmp_path, capsys):
    folder = tmp_path / "run"
    if kind == "empty folder":
        folder.mkdir()
    elif kind == "a file":
        folder.write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["train", "--resume", str(folder), "--dataset", "digits"]) == 2
    assert "holds no checkpoint to go on from" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_repeat_goes_on_with_an_unfinished_seed(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(cli.RECIPES, "classic", QUICK)
    monkeypatch.setattr(cli, "load", lambda *_: few)
    monkeypatch.chdir(tmp_path)
    stopped(few, tmp_path / "runs" / "classic-0", 1 + BATCHES * 2 + 1)
    capsys.readouterr()
    words = ["repeat", "--recipe", "classic", "--seeds", "1", "--device", "cpu", "--results"]
    assert cli.main([*words, str(ROOT / "notebooks" / "results" / "..")]) == 2  # no original.csv
    (tmp_path / "original.csv").write_text("epoch,test_accuracy\n1,98\n")
    assert cli.main([*words, str(tmp_path)]) == 0
    assert "Epoch 1:" not in capsys.readouterr().out
    monkeypatch.setitem(cli.RECIPES, "classic", replace(QUICK, lr=0.02))
    assert cli.main([*words, str(tmp_path)]) == 2
    assert "was begun with lr 0.01, not 0.02" in capsys.readouterr().err


def test_the_code_is_known_by_the_modules_that_training_imports():
    imported, new = set(), {"train"}
    while new:
        imported |= new
        text = "".join((ROOT / "s4lib" / f"{name}.py").read_text() for name in new)
        new = set(re.findall(r"^from s4lib\.(\w+) import", text, re.M)) - imported
    assert imported - {"checkpoint", "history"} | {"processes"} == set(checkpoint.SOURCES)
