"""A run that was stopped, however it was, ends with the bits of a run that never was.

`pytest --long` kills training at 500 moments rather than 7.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from s4lib import BEST, CLASSIC, FAST, MNISTNet, UsageError, fit
from s4lib import __main__ as cli
from s4lib.runtime import checkpoint
from s4lib.runtime.checkpoint import atomic_write, load_weights, pack
from tests.faults import QUICK, alike, end, few_digits

ROOT = Path(__file__).parents[1]
STEPS = 5  # an epoch

needs_posix = pytest.mark.skipif(
    os.name == "nt", reason="Windows knows no SIGKILL, no limits on files, no read-only folders"
)


class Killed(BaseException):
    """Ends a run as a kill would: nobody catches it."""


def kill():
    raise Killed


@pytest.fixture(scope="module")
def few(digits):
    return few_digits(digits, 20 * STEPS, 20)


def train(dataset, folder, recipe=QUICK, network=MNISTNet, seed=0, on_batch=None):
    return fit(network, dataset, recipe, seed, "cpu", folder, on_batch)


def at_step(moment, act):
    """Return a callback that acts after so many steps, in whatever epoch."""
    steps = count(1)
    return lambda *_: next(steps) == moment and act()


def stopped(dataset, folder, steps=STEPS + 2, recipe=QUICK):
    """Make a folder with a run that has died after so many steps."""
    with pytest.raises(Killed):
        train(dataset, folder, recipe, on_batch=at_step(steps, kill))
    return folder


def contents(folder):
    """Return every file's bytes, and when it was written, except the lock's."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def never(few, tmp_path_factory):
    """Where a run ended that was never stopped."""
    folder = tmp_path_factory.mktemp("never")
    train(few, folder)
    return folder


@pytest.fixture
def finished(never, tmp_path):
    return shutil.copytree(never, tmp_path / "run")


# That it resumes


@pytest.mark.parametrize("recipe", [CLASSIC, FAST, BEST])
def test_the_end_is_the_same_after_a_stop_in_every_epoch(few, recipe, tmp_path):
    plain, share = min(recipe.plain_epochs, 1), max(recipe.hard_share, 0.8)
    recipe = recipe.adjusted(epochs=3, batch_size=20, hard_share=share)
    recipe = replace(recipe, plain_epochs=plain)
    model, run = train(few, tmp_path / "never", recipe)
    for steps in (STEPS - 1, STEPS + 2, 2 * STEPS - 2):
        stopped(few, tmp_path / "run", steps, recipe)
        torch.rand(steps)  # wherever the generators are when it resumes
    again, history = train(few, tmp_path / "run", recipe)
    for name, value in model.state_dict().items():
        assert value.equal(again.state_dict()[name]), name
    for one, other in zip(run.epochs, history.epochs, strict=True):
        assert replace(one, seconds=0) == replace(other, seconds=0)
    assert alike(end(tmp_path / "never"), end(tmp_path / "run"))


def test_a_checkpoint_has_all_that_decides_the_rest_of_a_run(few, never, tmp_path):
    """If any state is exchanged, the end differs: so each state is saved, and restored."""
    folder = stopped(few, tmp_path / "run", 2 * STEPS + 2)
    state = end(folder)
    state["history"] = (folder / "history.json").read_text()
    fresh = end(stopped(few, tmp_path / "other", recipe=replace(QUICK, batch_size=30)))
    parts = ("model", "optimizer", "schedule", "generator", "random")
    assert state.keys() == {"config", "history", "scaler", "batches", *parts}
    for part in (None, *parts):
        content = pack({**state, part: fresh[part]} if part else state)
        digest = checkpoint.hashlib.sha256(content).digest()
        atomic_write(folder / "checkpoint.pt", digest + content)
        train(few, folder)
        assert alike(end(never), end(folder)) == (part is None), part


@needs_posix
def test_kills_at_random_moments_lose_nothing(tmp_path, request):
    moments = 500 if request.config.getoption("--long") else 7
    command = [sys.executable, "-m", "tests.faults", tmp_path, "--moments", str(moments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, writing, runs = map(int, re.findall(r"\d+", done.stdout))
    assert kills >= moments
    assert 0 < writing < kills
    assert runs > 0


def test_a_finished_run_comes_back_untrained_and_its_files_stay(few, finished, capsys):
    before, others = contents(finished), load_weights(MNISTNet(), finished / "weights.pt")
    model, run = train(few, finished, on_batch=lambda *_: pytest.fail("it trains"))
    assert len(run.epochs) == QUICK.epochs
    assert "Epoch" not in capsys.readouterr().out
    for name, value in model.state_dict().items():
        assert value.equal(others.state_dict()[name]), name
    assert contents(finished) == before


@pytest.mark.parametrize("name", ["weights.pt", "history.json"])
def test_lost_files_come_back_from_the_checkpoint(name, few, finished, never):
    (finished / name).unlink()
    train(few, finished)
    assert (finished / "weights.pt").read_bytes() == (never / "weights.pt").read_bytes()
    assert (finished / "history.json").read_text() == (never / "history.json").read_text()


# What is refused, and what stays then


def refusal(dataset, folder, **changed):
    """The first line of the complaint, after which all files are as they were."""
    before = contents(folder)
    with pytest.raises(UsageError) as caught:
        train(dataset, folder, **changed)
    assert contents(folder) == before
    first, second = str(caught.value).splitlines()
    assert second.startswith("Give the same settings to continue it, or choose another folder")
    return first.removeprefix(f"{folder} holds a run with ")


def test_another_run_is_refused_and_the_difference_named(few, finished, monkeypatch):
    """So a notebook's cell that is run again, changed or not, never costs a checkpoint."""
    assert refusal(few, finished, recipe=replace(QUICK, lr=0.02)) == "lr 0.01, not 0.02."
    mine = replace(QUICK, name="mine", rotation=9)
    assert refusal(few, finished, recipe=mine) == "name classic, not mine; rotation 7, not 9."
    assert refusal(few, finished, seed=1) == "seed 0, not 1."
    renamed = replace(few, name="more digits")
    assert refusal(renamed, finished) == "data set scikit-learn digits, not more digits."
    images = few.train[0].clone()
    images[7, 0, 14, 14] ^= 1
    other = replace(few, train=(images, few.train[1]))
    assert refusal(other, finished) == "another set of images."
    dropout = "Dropout(p=0.1, inplace=False), not Dropout(p=0, inplace=False);"
    assert refusal(few, finished, network=MNISTNet(0, 0)).startswith(
        f"layer block3.dropout {dropout}"
    )
    monkeypatch.setattr(torch, "__version__", "2.0")
    assert refusal(few, finished).endswith(", not 2.0.")


@pytest.mark.parametrize("name", ["weights.pt", "history.json"])
def test_a_folder_with_what_is_left_of_another_run_is_refused(name, few, finished, capsys):
    for path in finished.iterdir():
        if path.name != name:
            path.unlink()
    before = contents(finished)
    with pytest.raises(UsageError, match=f"holds a {name} of another run, which would be lost"):
        train(few, finished)
    assert contents(finished) == before


def test_a_damaged_checkpoint_is_named_and_the_run_can_start_anew(few, never, finished):
    path = finished / "checkpoint.pt"
    whole = path.read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for content in (b"", whole[:99], whole + b"more", flipped):  # more in test_hostile.py
        path.write_bytes(content)
        before = contents(finished)
        with pytest.raises(UsageError) as caught:
            train(few, finished)
        assert contents(finished) == before
        told = re.fullmatch(
            r"(.*) is damaged\. Delete (.*) to train again, or .*", str(caught.value)
        )
        assert told.groups() == (str(path), str(finished))
    shutil.rmtree(told[2])
    train(few, finished)
    assert alike(end(never), end(finished))


# What a disk can do


@needs_posix
def test_a_full_disk_stops_with_a_line_and_loses_nothing(few, never, tmp_path, monkeypatch):
    """The kernel refuses to make the file larger, as on a disk that is full."""
    import resource

    folder = stopped(few, tmp_path / "run")
    before = contents(folder)
    write, (soft, hard) = atomic_write, resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1000, 100_000):

        def limited(path, content, size=size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            try:
                write(path, content)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "atomic_write", limited)
            with pytest.raises(UsageError, match=r"Can't write .*checkpoint.*File too large"):
                train(few, folder)
        assert contents(folder) == before
    train(few, folder)
    assert alike(end(never), end(folder))


@pytest.fixture
def nobody(monkeypatch):
    """A working folder of someone's who must mind permissions, even if root runs the tests."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        Path(folder).chmod(0o777)
        monkeypatch.chdir(folder)
        os.seteuid(user or 65534)
        try:
            yield
        finally:
            os.seteuid(user)
            monkeypatch.undo()


@needs_posix
def test_a_folder_that_can_not_be_written_stops_with_a_line(few, never, nobody):
    """From the beginning, or from the middle of a run."""
    folder = Path("run")
    folder.mkdir()
    folder.chmod(0o555)
    with pytest.raises(UsageError, match=r"Can't write into run \(Permission denied\)"):
        train(few, folder)
    with pytest.raises(UsageError, match=r"Can't write into run.below \(Permission denied\)"):
        train(few, folder / "below")
    folder.chmod(0o755)
    (folder / ".lock").touch(0o444)  # somebody else's
    with pytest.raises(UsageError, match=r"in run, or its .lock is another user's"):
        train(few, folder)
    (folder / ".lock").unlink()
    read_only = at_step(STEPS + 1, lambda: folder.chmod(0o555))
    with pytest.raises(UsageError, match=r"Can't write run.checkpoint.pt \(Permission denied\)"):
        train(few, folder, on_batch=read_only)
    folder.chmod(0o755)
    train(few, folder)
    os.seteuid(os.getuid())  # somebody who may read what `never` holds
    assert alike(end(never), end(folder))


# What people do


HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_train_into_one_folder(few, never, tmp_path):
    folder = stopped(few, tmp_path / "run")
    before = contents(folder)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder / ".lock"], **pipes)
    assert holder.stdout.readline().strip() == b"locked"
    with pytest.raises(UsageError, match="Another process is at work in"):
        train(few, folder)
    assert contents(folder) == before
    holder.kill()
    holder.communicate()
    train(few, folder)  # the lock has died with its process
    assert alike(end(never), end(folder))


def test_only_who_has_the_lock_clears_away_what_a_killed_process_has_left(
    few, tmp_path, monkeypatch
):
    folder = stopped(few, tmp_path / "run")
    left = folder / "weights.pt.9.part"
    left.touch()
    monkeypatch.setattr(checkpoint, "rank", lambda: 1)
    train(few, folder)
    assert left.exists()
    monkeypatch.undo()
    train(few, folder)
    assert not left.exists()


def test_where_a_disk_knows_no_locks_it_trains_without(few, tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    _, run = train(few, tmp_path, replace(QUICK, epochs=1))
    assert len(run.epochs) == 1


def test_a_run_that_ends_badly_gives_its_folder_free(few, tmp_path):
    """Even while its error, with all that it refers to, is still at hand."""
    with pytest.raises(UsageError, match="smaller lr") as caught:
        train(few, tmp_path, replace(QUICK, lr=1e30))
    FileLock(tmp_path / ".lock", timeout=0).acquire().lock.release()
    assert caught


def interrupt():
    signal.raise_signal(signal.SIGINT)


def check_interrupted(folder, model, run):
    """Check that the network returned is that of the last whole epoch, and so are the files."""
    assert len(run.epochs) < QUICK.epochs
    if run.epochs:
        weights = load_weights(MNISTNet(), folder / "weights.pt").state_dict()
        for name, value in model.state_dict().items():
            assert value.equal(weights[name]), name
        assert (folder / "history.json").read_text() == run.to_json()
    else:
        assert not contents(folder)


@pytest.mark.parametrize("steps", [STEPS, STEPS + 3, 3 * STEPS])
def test_ctrl_c_at_a_step_hands_over_the_last_whole_epoch(steps, few, never, tmp_path, capsys):
    folder = tmp_path / "run"
    model, run = train(few, folder, on_batch=at_step(steps, interrupt))
    assert len(run.epochs) == (steps - 1) // STEPS
    assert f"Stopped in epoch {len(run.epochs) + 1}." in capsys.readouterr().out
    check_interrupted(folder, model, run)
    train(few, folder)
    assert alike(end(never), end(folder))


# The second epoch's files: checkpoint, weights, history.
@pytest.mark.parametrize(("call", "file"), [("replace", 4), ("fsync", 5), ("replace", 6)])
def test_ctrl_c_while_writing_loses_nothing(call, file, few, never, tmp_path, monkeypatch):
    folder, original = tmp_path / "run", getattr(os, call)
    stop = at_step(file, interrupt)

    def interrupted(*args):
        stop()
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, call, interrupted)
        check_interrupted(folder, *train(few, folder))
    assert not [*folder.glob("*.part")]
    train(few, folder)
    assert alike(end(never), end(folder))


def test_ctrl_c_while_resuming_gives_the_folder_free(few, never, finished, monkeypatch):
    (finished / "weights.pt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", lambda _: interrupt())
        with pytest.raises(KeyboardInterrupt) as caught:
            train(few, finished)
    train(few, finished)
    assert caught
    assert (finished / "weights.pt").read_bytes() == (never / "weights.pt").read_bytes()


def test_ctrl_c_before_training_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "load", lambda *_: interrupt())
    words = ["train", "--dataset", "digits", "--out", str(tmp_path / "run")]
    assert cli.main(words) == cli.INTERRUPTED
    assert capsys.readouterr().err == "Stopped.\n"
