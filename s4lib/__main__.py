"""`python -m s4lib`: train the network, test it, show it digits, measure it over several seeds."""

import argparse
import io
import sys
from functools import partial
from pathlib import Path

import torch
from torchsummary import summary as print_summary

from s4lib import Parser, UsageError, history, plots, processes
from s4lib.checkpoint import (
    SHIPPED_WEIGHTS,
    begun,
    claim,
    has_checkpoint,
    load_weights,
    lock,
    save,
    save_weights,
    writable,
)
from s4lib.data import DATASETS, SHORT_NAMES, Dataset, load, normalise
from s4lib.model import MNISTNet
from s4lib.photos import read_digit
from s4lib.receptive_field import receptive_fields, table
from s4lib.recipes import CLASSIC, DEFAULT, RECIPES
from s4lib.together import fit_together
from s4lib.train import choose_device, fit, per_class, predictions

INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C


def train(args) -> int:
    with processes.joined(choose_device(args.device)) as device:
        return train_on(str(device), args)


def train_on(device: str, args) -> int:
    # On return to a run, what isn't given is as it was; what differs is refused.
    before, name, seed = begun(args.resume) if args.resume else (None, None, 0)
    dataset = load(args.dataset or SHORT_NAMES.get(name, "auto"), args.data)
    recipe = RECIPES.get(args.recipe) or before or DEFAULT[dataset.name]
    seed = seed if args.seed is None else args.seed
    out = args.resume or args.out or Path("runs", f"{recipe.name}-{seed}")
    resume = args.resume is not None or (processes.restarted() and has_checkpoint(out))
    if not resume and processes.rank() == 0:
        claim(out)
    recipe = recipe.adjusted(args.epochs, args.batch_size, args.lr)
    _, run = fit(recipe, dataset, seed, device, out, resume)
    if processes.rank() == 0 and run.epochs:
        save_figure(plots.model_loss([run]), out / "modelloss.png")
        last = run.epochs[-1]
        print(
            f"{last.test_accuracy:.2f} % on {run.dataset} after epoch {last.epoch}. "
            f"Weights, history and curves are in {out}"
        )
    if len(run.epochs) == recipe.epochs:
        return 0
    print(f"Go on with it by: python -m s4lib train --resume {out}")
    return INTERRUPTED


def evaluate(args) -> int:
    model = load_weights(args.weights)
    writable(args.out)
    dataset = load(args.dataset, args.data)
    log_probs = test_predictions(model, dataset, args.device)
    labels = dataset.test[1]
    correct = (log_probs.argmax(1) == labels).sum().item()
    loss = torch.nn.functional.nll_loss(log_probs, labels).item()
    print(f"{args.weights.name} on {dataset.name}, {len(labels):,} test images\n")
    print(per_class(labels, log_probs.argmax(1)))
    print(f"\nAccuracy: {100 * correct / len(labels):.2f} %   Loss: {loss:.4f}")
    print(f"Number of correct predictions: {correct}/{len(labels)}\n")
    draw_results(dataset, log_probs, args.out)
    return 0


def test_predictions(model: MNISTNet, dataset: Dataset, device: str) -> torch.Tensor:
    """Log-probabilities of all test images, (N, 10), on the CPU."""
    device = choose_device(device)
    return predictions(model.to(device), dataset.normalise(dataset.test[0].to(device))).cpu()


def draw_results(dataset: Dataset, log_probs: torch.Tensor, out: Path) -> None:
    images, labels = dataset.test
    matrix = plots.confusion_matrix(labels, log_probs.argmax(1), dataset.name)
    save_figure(matrix, out / "confusion_matrix.png")
    save_figure(plots.mistakes(images, labels, log_probs, dataset.name), out / "mistakes.png")


def predict(args) -> int:
    model = load_weights(args.weights)
    if args.show:
        writable(args.out)
    seen, titles, failed = [], [], False
    for path in args.images:
        try:
            image = read_digit(path)
        except UsageError as error:
            failed = True
            print(error, file=sys.stderr)
            continue
        probability, digit = predictions(model, normalise(image[None])).exp()[0].max(0)
        print(f"{path}: {digit} ({100 * probability:.1f} %)")
        seen.append(image)
        titles.append(f"{path.name}\n{digit} ({100 * probability:.0f} %)")
    if args.show and seen:
        grid = plots.image_grid(torch.stack(seen), titles, columns=5, title="What the network saw")
        save_figure(grid, args.out / "seen.png")
    return 2 if failed else 0


def summary(args) -> int:
    print_summary(MNISTNet(), (1, 28, 28), device="cpu")
    print(f"\n{table(receptive_fields(MNISTNet()))}")
    return 0


def repeat(args) -> int:
    recipe = RECIPES[args.recipe]
    dataset = load(args.dataset, args.data)
    original = history.read_original(args.results / "original.csv")
    folders = [Path("runs", f"{recipe.name}-{seed}") for seed in range(args.seeds)]
    runs = [history.finished(out / "history.json", recipe, dataset.name) for out in folders]
    missing = [seed for seed, run in enumerate(runs) if run is None]
    if args.together and missing:
        for seed in missing:
            claim(folders[seed])
        for model, run in fit_together(recipe, dataset, missing, args.device):
            save_weights(folders[run.seed] / "weights.pt", model.state_dict())
            save(folders[run.seed] / "history.json", run.to_json().encode())
            runs[run.seed] = run
        missing = []
    for seed in missing:
        resume = has_checkpoint(folders[seed])
        if not resume:
            claim(folders[seed])
        _, runs[seed] = fit(recipe, dataset, seed, args.device, folders[seed], resume)
        if len(runs[seed].epochs) < recipe.epochs:
            return INTERRUPTED
    kind = "" if dataset.name == "MNIST" else f"-{SHORT_NAMES[dataset.name]}"
    save(args.results / f"{recipe.name}{kind}.json", history.dump(runs).encode())
    print(history.table(runs, original))
    print(f"\n{history.summary(runs)}")
    return 0


def experiments(args) -> int:
    from s4lib.experiments import report, runner  # a second, to match the networks' sizes
    from s4lib.experiments.plots import figures

    names = runner.check(args.names)
    writable(args.results)
    writable(args.out)
    dataset = load("mnist", args.data)
    try:
        with lock(args.results):
            runner.run_missing(names, dataset, args.results, args.seeds, args.device)
    except KeyboardInterrupt:
        print(f"\nStopped. The finished runs are kept in {args.results}.")
        return INTERRUPTED
    for name, figure in figures(args.results).items():
        save_figure(figure, args.out / f"experiment_{name}.png")
    for name, text in report.tables(args.results).items():
        print(f"\n{name}\n\n{text}")
    page = args.results.parent / "README.md"
    if page.exists():
        save(page, report.filled(page.read_text(encoding="utf-8"), args.results).encode())
    return 0


def pictures(args) -> int:
    writable(args.out)
    dataset = load("mnist", args.data)
    turn = CLASSIC.augmentation(torch.Generator().manual_seed(0))
    save_figure(plots.samples(dataset), args.out / "samples.png")
    save_figure(plots.augmented(dataset, turn), args.out / "augmented.png")
    runs = history.parse(Path("notebooks/results/classic.json").read_text())
    save_figure(plots.model_loss(runs), args.out / "modelloss.png")
    log_probs = test_predictions(load_weights(SHIPPED_WEIGHTS), dataset, "cpu")
    draw_results(dataset, log_probs, args.out)
    return 0


def save_figure(figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    save(path, buffer.getvalue())
    print(path)


def whole_number(text: str, least: int = 0) -> int:
    if not text.isdecimal() or len(text) > 19 or not least <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to 2^63 - 1")
    return int(text)


def parser() -> Parser:
    main = Parser(prog="python -m s4lib", description=__doc__.split(": ", 1)[1].capitalize())
    commands = main.add_subparsers(required=True, metavar="command")

    def command(run, text: str) -> Parser:
        added = commands.add_parser(run.__name__, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def add_data(to: Parser) -> None:
        to.add_argument(
            "--dataset",
            choices=DATASETS,
            default="auto",
            help="mnist, scikit-learn's bundled digits, or auto: MNIST if it can be had (default)",
        )
        to.add_argument(
            "--data", type=Path, help="folder of MNIST (default: $S4_DATA, else ./data)"
        )
        to.add_argument("--device", default="auto", help="cuda, mps or cpu (default: the fastest)")

    def add_weights(to: Parser) -> None:
        to.add_argument(
            "--weights",
            type=Path,
            default=SHIPPED_WEIGHTS,
            help="weights.pt of a run (default: those that come with s4lib)",
        )

    def add_out(to: Parser, default: str) -> None:
        to.add_argument(
            "--out", type=Path, default=Path(default), help=f"folder for pictures ({default})"
        )

    def add_recipe(to: Parser) -> None:
        to.add_argument(
            "--recipe",
            choices=RECIPES,
            default="fast",
            help="hyperparameters (fast; to train on the few bundled digits, more epochs of it)",
        )

    added = command(train, "train the network, test it after every epoch, save what it learned")
    add_recipe(added)
    add_data(added)
    added.add_argument("--epochs", type=int, help="passes over the training set (the recipe's)")
    added.add_argument("--batch-size", type=int, help="images in a step (the recipe's)")
    added.add_argument("--lr", type=float, help="learning rate at the start (the recipe's)")
    added.add_argument("--seed", type=whole_number, help="fixes all that is random (0)")
    where = added.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, help="folder for the run (runs/RECIPE-SEED)")
    where.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the unfinished run in this folder"
    )
    added.set_defaults(recipe=None, dataset=None)  # so that --resume knows what was given

    added = command(evaluate, "test trained weights, digit by digit, and draw their mistakes")
    add_weights(added)
    add_data(added)
    add_out(added, "runs/evaluate")

    added = command(predict, "read photos or scans of single digits, PNG or JPEG")
    added.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    add_weights(added)
    added.add_argument("--show", action="store_true", help="draw what the network saw")
    add_out(added, "runs/predict")

    command(summary, "print the network's layers, parameters and receptive fields")

    added = command(repeat, "train several seeds, those already in runs/ aside, and compare them")
    add_recipe(added)
    add_data(added)
    added.add_argument(
        "--seeds", type=partial(whole_number, least=1), default=5, help="how many, from 0 on (5)"
    )
    added.add_argument(
        "--together", action="store_true", help="train all seeds at once, as one batched network"
    )
    added.add_argument(
        "--results", type=Path, default=Path("notebooks/results"), help="folder for the histories"
    )

    added = command(experiments, "make the experiments' runs that are missing, tables, pictures")
    added.add_argument("names", nargs="*", metavar="NAME", help="some of the experiments (all)")
    added.add_argument("--data", type=Path, help="folder of MNIST ($S4_DATA, else ./data)")
    added.add_argument("--device", default="auto", help="cuda, mps or cpu (default: the fastest)")
    added.add_argument("--seeds", type=whole_number, default=3, help="runs of each variant (3)")
    added.add_argument(
        "--results", type=Path, default=Path("notebooks/results"), help="folder for the results"
    )
    add_out(added, "images")

    added = command(pictures, "draw the README's pictures again, from results, weights and MNIST")
    added.add_argument("--data", type=Path, help="folder of MNIST ($S4_DATA, else ./data)")
    add_out(added, "images")
    return main


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        return args.run(args)
    except UsageError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"Can't use {error.filename}: {error.strerror or error}.", file=sys.stderr)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    return 2


if __name__ == "__main__":
    sys.exit(main())
