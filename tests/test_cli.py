"""The command line, as a person meets it: what it prints, what it leaves, what it refuses."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from s4lib import MNISTNet, UsageError, data, evaluate, history
from s4lib import __main__ as cli
from s4lib.runtime.checkpoint import load_weights
from tests.faults import few_digits
from tests.strokes import draw

ROOT = Path(__file__).parents[1]


@pytest.fixture
def few(digits, monkeypatch):
    """The bundled digits, but few of them."""
    monkeypatch.setattr(data, "load_digits", lambda: few_digits(digits))


def run(capsys, *words):
    """Exit status, standard output and standard error of `python -m s4lib *words`."""
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refused(capsys, *words):
    """The message of a command that must end with exit status 2 and one or two lines."""
    status, _, err = run(capsys, *words)
    message = [line for line in err.splitlines() if line and not line.startswith("loss=")]
    assert status == 2
    assert 1 <= len(message) <= 2, err
    return "\n".join(message)


TRAIN = ("train", "--recipe", "classic", "--dataset", "digits", "--device", "cpu")


def test_each_data_set_has_a_folder_and_few_digits_get_more_epochs(
    tiny_mnist, here, capsys, monkeypatch
):
    def stop(_network, _dataset, recipe, _seed, _device, out):
        raise UsageError(f"{out.as_posix()}: {recipe.epochs} epochs")

    monkeypatch.setattr(cli, "fit", stop)
    words = ("train", "--dataset", "digits")
    assert refused(capsys, *words) == "runs/fast-digits-0: 20 epochs"
    assert refused(capsys, *words, "--epochs", 3) == "runs/fast-digits-0: 3 epochs"
    assert refused(capsys, *words, "--recipe", "fast") == "runs/fast-digits-0: 3 epochs"
    words = ("train", "--dataset", "mnist", "--data", tiny_mnist)
    assert refused(capsys, *words) == "runs/fast-mnist-0: 3 epochs"


def test_train_leaves_weights_history_and_curves(few, here, capsys):
    words = (*TRAIN, "--seed", 7)
    status, out, _ = run(capsys, *words, "--epochs", 2, "--batch-size", 50, "--lr", 0.005)
    assert status == 0
    folder = here / "runs" / "classic-digits-7"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        "checkpoint.pt",
        "history.json",
        "modelloss.png",
        "weights.pt",
    ]
    history = json.loads((folder / "history.json").read_text())
    assert history["dataset"] == "scikit-learn digits"
    assert history["recipe"]["batch_size"] == 50
    assert history["recipe"]["lr"] == 0.005
    assert len(history["epochs"]) == 2
    last = history["epochs"][-1]
    assert "with the recipe classic on scikit-learn digits: 200 training and 50 test images" in out
    assert f"{last['test_accuracy']:.2f} % on scikit-learn digits after epoch 2." in out

    assert "holds a run with epochs 2, not 19" in refused(capsys, *words)
    assert json.loads((folder / "history.json").read_text()) == history

    status, out, _ = run(
        capsys, "evaluate", "--weights", folder / "weights.pt", "--dataset", "digits"
    )
    assert status == 0
    assert f"Number of correct predictions: {last['test_correct']}/50" in out


def test_ctrl_c_ends_with_what_was_reached(few, here, capsys, monkeypatch):
    import s4lib.train

    evaluate, calls = s4lib.train.evaluate, []

    def interrupt_in_the_second_epoch(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.setattr(s4lib.train, "evaluate", interrupt_in_the_second_epoch)
    words = (*TRAIN, "--epochs", 3, "--out", "mine")
    status, out, _ = run(capsys, *words)
    assert status == cli.INTERRUPTED
    assert "Stopped in epoch 2" in out
    assert "after epoch 1" in out
    assert out.endswith("The same command continues the run.\n")
    assert Path("mine", "modelloss.png").exists()
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert re.findall(r"^Epoch \d", out, re.MULTILINE) == ["Epoch 2", "Epoch 3"]


def test_evaluate_prints_every_class_and_draws(here, capsys):
    status, out, _ = run(capsys, "evaluate", "--dataset", "digits", "--out", "pictures")
    assert status == 0
    assert "scikit-learn digits, 360 test images" in out
    rows = [line.split() for line in out.splitlines() if line[:5].strip().isdigit()]
    assert [row[0] for row in rows] == [str(digit) for digit in range(10)]
    correct = sum(int(row[2]) for row in rows)
    assert f"Number of correct predictions: {correct}/360" in out
    assert f"Accuracy: {100 * correct / 360:.2f} %" in out
    assert (here / "pictures" / "confusion_matrix.png").exists()
    assert (here / "pictures" / "mistakes.png").exists()


def test_the_shipped_weights_are_those_of_best_seed_0(mnist):
    stored = ROOT / "notebooks/results/best.json"
    last = history.parse(stored.read_text())[0].epochs[-1]
    _, correct = evaluate(load_weights(MNISTNet()), mnist)
    assert abs(correct - last.test_correct) <= 2  # another machine may round otherwise


def test_predict_reads_each_and_goes_on_after_a_bad_one(here, capsys):
    draw(3, (300, 400), 26).save("three.png")
    draw(8, (300, 400), 26).convert("RGB").save("eight.jpg")
    Path("notes.png").write_text("no image")
    status, out, err = run(capsys, "predict", "three.png", "notes.png", "eight.jpg", "--show")
    assert status == 2
    assert err.count("\n") == 1
    assert "notes.png" in err
    lines = out.splitlines()
    assert lines[0].startswith("three.png: 3 (")
    assert lines[1].startswith("eight.jpg: 8 (")
    assert lines[2] == str(Path("runs", "predict", "seen.png"))
    assert Path(lines[2]).exists()
    assert run(capsys, "predict", "three.png")[0] == 0


def test_summary_shows_parameters_and_receptive_fields(capsys):
    status, out, _ = run(capsys, "summary")
    assert status == 0
    assert "Total params: 17,498" in out
    assert out.splitlines()[-1].split() == ["gap", "3", "1", "0", "1", "4", "40"]


def test_seeds_trains_what_is_missing_and_compares(few, here, capsys):
    words = (*TRAIN, "--epochs", 1)
    _, first, _ = run(capsys, *words, "--seeds", 2)
    assert first.count("Epoch 1:") == 2
    status, second, _ = run(capsys, *words, "--seeds", 3)
    assert status == 0
    assert second.count("Epoch 1:") == 1
    assert "| epoch | mean of 3 seeds |" in second
    assert "| CLASSIC | 1 | 3 | " in second
    together = Path("runs", "classic-digits.json")
    assert second.endswith(f"{together}\n")
    assert [one["seed"] for one in json.loads(together.read_text())] == [0, 1, 2]
    run(capsys, *words, "--seeds", 1, "--out", "elsewhere")
    assert Path("elsewhere", "classic-digits-0", "weights.pt").exists()
    assert Path("elsewhere", "classic-digits.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--epochs", "0"), "epochs must be a whole number from 1 on, not 0"),
        (("train", "--batch-size", "-3"), "batch_size must be a whole number from 1 on, not -3"),
        (("train", "--lr", "nan"), "lr must be a number from 1e-12 on, not nan"),
        (("train", "--lr", "0"), "lr must be a number from 1e-12 on, not 0.0"),
        (("train", "--lr", "fast"), "argument --lr: invalid float value: 'fast'"),
        (
            ("train", "--seed", "-1"),
            "seed must be a whole number from 0 to 9223372036854775807, not -1",
        ),
        (
            ("train", "--seed", str(2**64)),
            "seed must be a whole number from 0 to 9223372036854775807",
        ),
        (("train", "--recipe", "secret"), "invalid choice: 'secret'"),
        (("train", "--dataset", "cifar"), "invalid choice: 'cifar'"),
        (("train", "--dataset", "digits", "--device", "toaster"), "no device 'toaster' here"),
        (("train", "--dataset", "digits", "--lr", "1e30"), "Try a smaller lr than 1e+30"),
        (("train", "--out", "file/run"), "Can't write into file"),
        (("evaluate", "--weights", "file"), "file is not a file of weights"),
        (("evaluate", "--weights", "missing"), "Can't read missing"),
        (("evaluate", "--dataset", "digits", "--out", "file"), "Can't write into file"),
        (("predict",), "the following arguments are required: IMAGE"),
        (("predict", "missing.png"), "Can't read missing.png"),
        (("train", "--seeds", "x"), "argument --seeds: invalid int value: 'x'"),
        (("train", "--seeds", "0"), "--seeds must be a whole number from 1 on, not 0"),
        ((), "required: command"),
        (("dance",), "invalid choice: 'dance'"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_mistakes_get_one_or_two_lines_and_status_2(here, capsys, words, message):
    Path("file").touch()
    assert message in refused(capsys, *words)
    assert Path("file").read_bytes() == b""
    assert not list(here.rglob("weights.pt"))
    assert not list(here.rglob("history.json"))


def test_help_names_every_option_of_a_command(capsys):
    for name, (_, _, options) in cli.COMMANDS.items():
        status, out, _ = run(capsys, name, "--help")
        assert status == 0
        assert out.startswith(f"usage: python -m s4lib {name}")
        assert all(option in out for option in options.replace("images", "IMAGE").split())


def test_as_a_program(here):
    """A reader that stops after the first line causes no error message."""
    program = subprocess.Popen(
        [sys.executable, "-m", "s4lib", "summary"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert program.stdout.readline().startswith("-----")
    program.stdout.close()
    assert program.stderr.read() == ""
    assert program.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_output_is_named(capsys, monkeypatch):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # closing it fails as well
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(["summary"]) == 2
    assert capsys.readouterr().err == "Can't use the output: No space left on device.\n"


def test_a_pipe_that_is_closed_early_is_no_mistake(capsys, monkeypatch):
    """In `summary | head -1`, head has gone before the buffered text is written."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(["summary"]) == 0
    assert capsys.readouterr().err == ""
