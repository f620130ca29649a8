"""Are networks judged right that nobody here has written? Layers, fields, gradients and more.

    python -m tests.benchmarks.strangers FOLDER [--draws 20]

FOLDER holds files and notebooks, at any depth. What the checker, the receptive fields, the referee
and the rehearsal of `fit` say of each network in them is compared with truths found in another way:
formulas of the layers, disturbance of each layer's output, gradients of one activation along the
pixels, and autograd. The verdict must be the same for each of `--draws` of a network's weights.
Prints a line for each fault, and a Markdown table of how many networks are without one.
"""

import argparse
import contextlib
import io
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from backprop.referee import compare
from notebooks.assignment.inspection import (
    DROPOUT,
    LINEAR,
    NORM,
    inspect_network,
    prepared,
    undisturbed,
)
from notebooks.assignment.source_files import errors_of, import_network, networks, read_parts, split
from s4lib.receptive_field import both, receptive_fields
from s4lib.runtime import UsageError
from s4lib.runtime.device import MixedPrecision
from s4lib.runtime.rehearsal import memory_format
from s4lib.train import identity, make_network

MODULES = {NORM: _BatchNorm, DROPOUT: _DropoutNd, LINEAR: nn.Linear}
COLUMNS = ("parameters", "layers", "fields", "gradients", "training")
Make = Callable[[], nn.Module]


def images(count: int, seed: int = 0) -> Tensor:
    """Images with a background of one value, as digits have, and a random patch."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.full((count, 1, 28, 28), -0.4242)
    batch[:, :, 7:21, 8:20] = torch.randn(count, 1, 14, 12, generator=generator)
    return batch


def parameters(model: nn.Module) -> int:
    """How many parameters the layers have by their formulas; of others, as they hold."""
    total = 0
    for layer in model.modules():
        own = sum(one.numel() for one in layer.parameters(recurse=False))
        biased = getattr(layer, "bias", None) is not None
        usual = {*layer._parameters} <= {"weight", "bias"}
        if type(layer) is nn.Conv2d and usual:
            high, wide = layer.kernel_size
            own = layer.out_channels * (layer.in_channels // layer.groups * high * wide + biased)
        elif type(layer) is nn.Linear and usual:
            own = layer.out_features * (layer.in_features + biased)
        elif isinstance(layer, _BatchNorm):
            own = 2 * layer.num_features * layer.affine
        total += own
    return total


def at_work(model: nn.Module) -> set[str]:
    """The layers, of those that are modules, whose outputs the network's output depends on.

    In training mode, with the same random numbers each time: each output is disturbed in turn.
    """
    batch, found = torch.randn(16, 1, 28, 28), set()

    def computed() -> Tensor:
        torch.manual_seed(0)
        with undisturbed(), torch.no_grad():
            return model.train()(batch.clone())

    for kind, types in MODULES.items():
        for module in [one for one in model.modules() if isinstance(one, types)]:
            before = computed()
            disturb = module.register_forward_hook(
                lambda *call: call[-1] + torch.randn_like(call[-1])
            )
            if not torch.equal(before, computed()) and getattr(module, "p", 1) > 0:
                found.add(kind)
            disturb.remove()
    return found


def fields(make: Make, draws: int) -> dict[str, tuple[tuple[int, int], int]]:
    """The height and width of what the middle activation of each convolution's and pooling's output
    depends on, and how far from the image's edge that ends.

    By the gradients along all pixels, added up over draws of weights and images.
    """
    touched = {}
    for seed in range(draws):
        torch.default_generator.manual_seed(seed)
        model = make_network(make()).double().eval()
        names = {module: name for name, module in model.named_modules()}
        outputs = {}

        def note(module, inputs, output, names=names, outputs=outputs):
            if inputs[0].shape[-2:] != (1, 1):
                outputs.setdefault(names[module], []).append(output)

        for module in names:
            if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
                module.register_forward_hook(note)
        batch = torch.randn(2, 1, 28, 28, dtype=torch.double, requires_grad=True)
        with undisturbed():
            model(batch.clone())
        for name, (*_, output) in outputs.items():
            if output.dim() == 4:
                middle = output[0, :, output.shape[2] // 2, output.shape[3] // 2].sum()
                (slopes,) = torch.autograd.grad(middle, batch, retain_graph=True)
                touched[name] = touched.get(name, 0) + slopes[0, 0].abs()
    result = {}
    for name, pixels in touched.items():
        rows, columns = (pixels.sum(axis).nonzero().flatten() for axis in (1, 0))
        if len(rows):
            ends = rows.min(), columns.min(), 27 - rows.max(), 27 - columns.max()
            sides = tuple(int(one.max() - one.min()) + 1 for one in (rows, columns))
            result[name] = sides, int(min(ends))
    return result


def judge(make: Make, draws: int = 20) -> Iterator[tuple[str, str]]:
    """Each fault in what is said of a network: the column, and what is wrong.

    Of layers that the referee lacks, "lacks" is the column: they are named, which is right.
    """
    torch.manual_seed(0)
    model = make_network(make())
    if identity(model)[1] != parameters(model):
        yield "parameters", f"{identity(model)[1]} instead of {parameters(model)}"

    verdicts = Counter()
    for seed in range(draws):
        torch.default_generator.manual_seed(seed)
        verdicts[frozenset(inspect_network(prepared(make).train()).layers)] += 1
    truth = at_work(prepared(make))
    if len(verdicts) > 1:
        yield "layers", f"the verdict depends on the weights: {dict(verdicts)}"
    if not all(truth <= verdict for verdict in verdicts):
        yield "layers", f"{truth} at work, said are {set(next(iter(verdicts)))}"

    said = {row.layer: row for row in receptive_fields(model)}
    for name, (sides, to_edge) in fields(make, 6).items():
        row = said.get(name)
        field, jump = (both(row.receptive_field), max(both(row.jump))) if row else ((0, 0), 0)
        cut = to_edge < jump  # by the image's edge, or by a border of zeros
        if any(
            one > whole or (one < whole and not cut)
            for one, whole in zip(sides, field, strict=True)
        ):
            yield "fields", f"{name} sees {sides}, said is {field}"

    try:
        off = Counter(name for seed in range(draws) for name in disagreeing(make, seed))
        if off:
            yield "gradients", f"said to disagree, in so many draws: {dict(off)}"
    except UsageError as error:
        yield "lacks", str(error)
    amp = MixedPrecision(torch.device("cpu"), torch.float32)
    with contextlib.redirect_stdout(io.StringIO()):
        memory_format(make_network(make()), images(32), amp)


def disagreeing(make: Make, seed: int) -> list[str]:
    """The tensors whose gradients the referee says to disagree, for one draw of the weights."""
    torch.default_generator.manual_seed(seed)
    with undisturbed():
        rows = compare(make, images(2, seed), torch.arange(2), seed)
    return [row.tensor for row in rows if not row.approximate]


def found_in(path: Path) -> list[str]:
    """The networks of a file: the only one, or each of several by its name."""
    try:
        import_network(str(path))
        return [str(path)]
    except UsageError as error:
        if "Say what to check" not in str(error):
            raise
    names = networks([one for part in read_parts(path) for one in split(part)])
    return [f"{path}:{name}" for name in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=20, help="of each network's weights (20)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    counts, judged = Counter(), 0
    for path in sorted([*args.folder.rglob("*.py"), *args.folder.rglob("*.ipynb")]):
        try:
            targets = found_in(path)
        except UsageError as refusal:
            counts["refused"] += 1
            print(f"{path}: refused: {refusal}", file=sys.stderr)
            continue
        for target in targets:
            try:
                _, make = import_network(target)
                with errors_of(path):
                    faults = [*judge(make, args.draws)]
            except UsageError as refusal:
                counts["refused"] += 1
                print(f"{target}: refused: {refusal}", file=sys.stderr)
                continue
            except Exception:  # a traceback of ours is the worst fault
                faults = [("traceback", traceback.format_exc().strip().splitlines()[-1])]
            judged += 1
            for column in {column for column, _ in faults}:
                counts[column] += 1
            for column, text in faults:
                print(f"{target}: {column}: {text}", file=sys.stderr)
    print(f"| of {judged} networks | right |\n|---|---:|")
    for column in COLUMNS:
        print(f"| {column} | {judged - counts[column] - counts['traceback']} |")
    print(f"| gradients compared | {judged - counts['lacks'] - counts['traceback']} |")
    print(f"\n{counts['traceback']} tracebacks, {counts['refused']} refused by a line")
    return 0


if __name__ == "__main__":
    sys.exit(main())
