"""Run `python -m s4lib`: train a network, test it, or show it digits."""

import sys
from pathlib import Path

import torch
from torchsummary import summary as print_summary

from s4lib import history, plots
from s4lib.data import DATASETS, SHORT_NAMES, load
from s4lib.model import MNISTNet
from s4lib.photos import answers, read_digit, read_digits
from s4lib.receptive_field import receptive_fields, table
from s4lib.recipes import NETWORKS, RECIPES
from s4lib.runs import seeds_and_folders
from s4lib.runtime import INTERRUPTED, Parser, UsageError, run_command
from s4lib.runtime.checkpoint import SHIPPED_WEIGHTS, atomic_write, load_weights, make_dir
from s4lib.runtime.device import choose_device
from s4lib.runtime.distributed import init_distributed, rank
from s4lib.train import fit, predict


def train(args) -> int:
    with init_distributed(choose_device(args.device)) as device:
        dataset = load(args.dataset, args.data)
        kind = SHORT_NAMES[dataset.name]
        recipe = RECIPES[args.recipe or "fast"]
        if kind == "digits" and not args.recipe:
            recipe = recipe.adjusted(epochs=20, hard_share=1)  # of few images
        recipe = recipe.adjusted(epochs=args.epochs, batch_size=args.batch_size, lr=args.lr)
        runs = []
        name = f"{recipe.name}-{kind}"
        for seed, out in seeds_and_folders(args.seed, args.seeds, args.out, Path("runs"), name):
            _, run = fit(NETWORKS[recipe.name], dataset, recipe, seed, str(device), out)
            if rank() == 0 and run.epochs:
                plots.save_figure(plots.model_loss([run]), out / "modelloss.png")
                last = run.epochs[-1]
                print(
                    f"{last.test_accuracy:.2f} % on {run.dataset} after epoch {last.epoch}. "
                    f"Weights, history and curves are in {out}"
                )
            if len(run.epochs) < recipe.epochs:
                print("The same command continues the run.")
                return INTERRUPTED
            runs.append(run)
        if args.seeds and rank() == 0:
            together = out.parent / f"{recipe.name}-{kind}.json"
            atomic_write(together, history.dump(runs).encode())
            print(f"{history.table(runs)}\n\n{history.summary(runs)}\n\n{together}")
    return 0


def evaluate(args) -> int:
    model = load_weights(MNISTNet(), args.weights)
    out = args.out or Path("runs", "evaluate")
    make_dir(out)
    dataset = load(args.dataset, args.data)
    device = choose_device(args.device)
    images, labels = dataset.test
    log_probs = predict(model.to(device), dataset.normalise(images.to(device))).cpu()
    predicted = log_probs.argmax(1)
    correct = (predicted == labels).sum().item()
    loss = torch.nn.functional.nll_loss(log_probs, labels).item()
    print(f"{args.weights.name} on {dataset.name}, {len(labels):,} test images\n")
    print(history.per_class(labels, predicted))
    print(f"\nAccuracy: {100 * correct / len(labels):.2f} %   Loss: {loss:.4f}")
    print(f"Number of correct predictions: {correct}/{len(labels)}\n")
    matrix = plots.confusion_matrix(labels, predicted, dataset.name)
    plots.save_figure(matrix, out / "confusion_matrix.png")
    wrong = plots.mistakes(images, labels, log_probs, dataset.name)
    plots.save_figure(wrong, out / "mistakes.png")
    return 0


def read(args) -> int:
    model = load_weights(MNISTNet(), args.weights)
    out = args.out or Path("runs", "predict")
    if args.show:
        make_dir(out)
    seen, titles, failed = [], [], False
    for path in args.images:
        try:
            digits = read_digits(path) if args.many else read_digit(path)[None]
        except UsageError as error:
            failed = True
            print(error, file=sys.stderr)
            continue
        said = answers(model, digits)
        print(f"{path}: {', '.join(said)}")
        seen += digits
        titles += [f"{path.name}\n{text.replace(' or ', chr(10))}" for text in said]
    if args.show and seen:
        grid = plots.image_grid(torch.stack(seen), titles, columns=5, title="What the network saw")
        plots.save_figure(grid, out / "seen.png")
    return 2 if failed else 0


def summary(_) -> int:
    print_summary(MNISTNet(), (1, 28, 28), device="cpu")
    print(f"\n{table(receptive_fields(MNISTNet()))}")
    return 0


OPTIONS = {
    "images": {"type": Path, "nargs": "+", "metavar": "IMAGE"},
    "--recipe": {"choices": RECIPES, "help": "hyperparameters (fast, on the "
                 "digits 20 epochs of it)"},
    "--dataset": {"choices": DATASETS, "default": "auto", "help": "mnist; digits, which come with "
                  "scikit-learn; or auto: MNIST if possible (auto)"},
    "--data": {"type": Path, "help": "folder of MNIST ($S4_DATA, else ./data)"},
    "--device": {"default": "auto", "help": "cuda, mps or cpu (the fastest)"},
    "--epochs": {"type": int, "help": "passes over the training set (the recipe's)"},
    "--batch-size": {"type": int, "help": "images in a step (the recipe's)"},
    "--lr": {"type": float, "help": "the highest learning rate (the recipe's)"},
    "--seed": {"type": int, "default": 0, "help": "fixes all that is random (0)"},
    "--seeds": {"type": int, "metavar": "N",
                "help": "train with each of the seeds from 0 to N - 1, in a folder of its own"},
    "--weights": {"type": Path, "default": SHIPPED_WEIGHTS, "help": "weights.pt of a run (those "
                  "that come with s4lib)"},
    "--many": {"action": "store_true", "help": "read every digit of a picture, row by row"},
    "--show": {"action": "store_true", "help": "draw what the network saw"},
    "--out": {"type": Path, "help": "folder to write to (below runs)"},
}  # fmt: skip

COMMANDS = {
    "train": (train, "train the network and test it after every epoch; again, to continue",
              "--recipe --dataset --data --device --epochs --batch-size --lr --seed --seeds --out"),
    "evaluate": (evaluate, "test weights digit by digit, and draw their mistakes",
                 "--weights --dataset --data --device --out"),
    "predict": (read, "read photos, scans or drawings of digits: PNG, JPEG, BMP, GIF, WebP, TIFF",
                "images --many --weights --show --out"),
    "summary": (summary, "print the network's layers, parameters and receptive fields", ""),
}  # fmt: skip


def parser() -> Parser:
    main = Parser(prog="python -m s4lib", description=__doc__.split(": ", 1)[1].capitalize())
    commands = main.add_subparsers(required=True, metavar="command")
    for name, (run, text, options) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        for option in options.split():
            command.add_argument(option, **OPTIONS[option])
    return main


def main(argv: list[str] | None = None) -> int:
    return run_command(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
