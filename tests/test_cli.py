"""The command line, as a person meets it: what it prints, what it leaves, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from strokes import draw

from s4lib import __main__ as cli
from s4lib import data
from s4lib.checkpoint import SHIPPED_WEIGHTS, load_weights
from s4lib.recipes import DEFAULT, FAST
from tests.faults import few_digits

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


def test_without_a_recipe_the_few_digits_get_more_epochs_than_mnist(few, here, capsys):
    _, out, _ = run(capsys, "train", "--dataset", "digits", "--batch-size", 200)
    assert out.startswith("fast on scikit-learn digits")
    assert f"Epoch {DEFAULT['scikit-learn digits'].epochs}:" in out
    assert DEFAULT["scikit-learn digits"].epochs > DEFAULT["MNIST"].epochs == FAST.epochs


def test_train_leaves_weights_history_and_curves(few, here, capsys):
    status, out, _ = run(capsys, *TRAIN, "--epochs", 2, "--batch-size", 50, "--lr", 0.005)
    assert status == 0
    folder = here / "runs" / "classic-0"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        "checkpoint-0.pt",
        "checkpoint-1.pt",
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
    assert out.startswith("classic on scikit-learn digits: 200 training and 50 test images")
    assert f"{last['test_accuracy']:.2f} % on scikit-learn digits after epoch 2." in out

    assert "already holds a run" in refused(capsys, *TRAIN)
    assert json.loads((folder / "history.json").read_text()) == history

    status, out, _ = run(
        capsys, "evaluate", "--weights", folder / "weights.pt", "--dataset", "digits"
    )
    assert status == 0
    assert f"Number of correct predictions: {last['test_correct']}/50" in out


def test_out_and_seed_name_the_run(few, here, capsys):
    assert run(capsys, *TRAIN, "--epochs", 1, "--seed", 7)[0] == 0
    assert (here / "runs" / "classic-7" / "weights.pt").exists()
    assert run(capsys, *TRAIN, "--epochs", 1, "--out", here / "mine")[0] == 0
    assert (here / "mine" / "weights.pt").exists()


def test_ctrl_c_ends_with_what_was_reached(few, here, capsys, monkeypatch):
    import s4lib.train

    evaluate, calls = s4lib.train.evaluate, []

    def interrupt_in_the_second_epoch(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.setattr(s4lib.train, "evaluate", interrupt_in_the_second_epoch)
    status, out, _ = run(capsys, *TRAIN, "--epochs", 3)
    assert status == cli.INTERRUPTED
    assert "Stopped in epoch 2" in out
    assert "after epoch 1" in out
    assert (here / "runs" / "classic-0" / "modelloss.png").exists()


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


def test_the_shipped_weights_reach_the_goal_on_mnist(mnist, here, capsys):
    status, out, _ = run(capsys, "evaluate", "--dataset", "mnist")
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("Number of correct")]
    correct, total = map(int, line.split()[-1].split("/"))
    assert total == 10_000
    assert correct >= 9940


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


def test_repeat_trains_what_is_missing_and_tabulates(few, here, capsys, monkeypatch):
    monkeypatch.setitem(cli.RECIPES, "classic", cli.CLASSIC.adjusted(epochs=1))
    Path("results").mkdir()
    original = ROOT / "notebooks" / "results" / "original.csv"
    Path("results/original.csv").write_text(original.read_text())
    words = (
        "repeat",
        "--recipe",
        "classic",
        "--dataset",
        "digits",
        "--device",
        "cpu",
        "--results",
        "results",
    )
    _, first, _ = run(capsys, *words, "--seeds", 2)
    assert first.count("Epoch 1:") == 2
    status, second, _ = run(capsys, *words, "--seeds", 3)
    assert status == 0
    assert second.count("Epoch 1:") == 1
    assert "| epoch | the original | mean of 3 seeds |" in second
    assert len(json.loads(Path("results/classic-digits.json").read_text())) == 3
    assert not Path("results/classic.json").exists()  # MNIST's
    _, third, _ = run(capsys, *words, "--seeds", 5, "--together")
    assert "seeds [3, 4] together" in third
    assert "| CLASSIC | 1 | 5 | " in third
    five = json.loads(Path("results/classic-digits.json").read_text())
    assert [one["seed"] for one in five] == [0, 1, 2, 3, 4]
    assert load_weights("runs/classic-4/weights.pt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--epochs", "0"), "epochs must be a whole number, 1 or more, not 0"),
        (("train", "--epochs", "many"), "argument --epochs: invalid int value: 'many'"),
        (("train", "--batch-size", "-3"), "batch_size must be a whole number, 1 or more, not -3"),
        (("train", "--lr", "nan"), "lr must be a positive number, not nan"),
        (("train", "--lr", "0"), "lr must be a positive number, not 0"),
        (("train", "--lr", "fast"), "argument --lr: invalid float value: 'fast'"),
        (("train", "--seed", "-1"), "'-1' is not a whole number from 0"),
        (("train", "--seed", str(2**64)), "is not a whole number from 0"),
        (("train", "--recipe", "secret"), "invalid choice: 'secret'"),
        (("train", "--dataset", "cifar"), "invalid choice: 'cifar'"),
        (("train", "--dataset", "digits", "--device", "toaster"), "no device 'toaster' here"),
        (("train", "--dataset", "digits", "--batch-size", "9999"), "larger than the 1,437"),
        (("train", "--dataset", "digits", "--lr", "1e30"), "Try a smaller lr than 1e+30"),
        (("train", "--out", "file/run"), "Can't write into file"),
        (("evaluate", "--weights", "file"), "file is not a file of weights"),
        (("evaluate", "--weights", "missing"), "Can't read missing"),
        (("evaluate", "--dataset", "digits", "--out", "file"), "Can't write into file"),
        (("predict",), "the following arguments are required: IMAGE"),
        (("predict", "missing.png"), "Can't read missing.png"),
        (("repeat", "--seeds", "x"), "'x' is not a whole number"),
        (("repeat", "--seeds", "0"), "'0' is not a whole number from 1"),
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


def test_mnist_that_can_not_be_had_is_refused_before_training(tiny_mnist, here, capsys):
    message = refused(capsys, "train", "--dataset", "mnist", "--data", "nothing")
    assert "--dataset digits" in message
    assert not Path("nothing").exists()


def test_a_damaged_file_is_named_on_the_command_line(tiny_mnist, here, capsys):
    packed = tiny_mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    packed.write_bytes(b"")
    assert f"{packed} is damaged" in refused(capsys, "train", "--data", tiny_mnist)


@pytest.mark.parametrize("command", ["", "train", "evaluate", "predict", "summary", "repeat"])
def test_help_fits_the_page(command, capsys):
    status, out, _ = run(capsys, *command.split(), "--help")
    assert status == 0
    assert out.startswith("usage: python -m s4lib")


def test_as_a_program(here):
    words = [sys.executable, "-m", "s4lib", "train", "--epochs", "none"]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert SHIPPED_WEIGHTS.exists()
