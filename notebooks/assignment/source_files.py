"""Load a network from a student's file or notebook, executing only what the network needs.

That is its class or function, and whatever these read from the module, in turn: imports,
definitions, and assignments such as `dropout = 0.05`. Statements that train, load data or open
files are never executed, nor are statements that nothing needs.
"""

import ast
import builtins
import contextlib
import inspect
import json
import linecache
import re
import symtable
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from s4lib.runtime import UsageError
from s4lib.runtime.rehearsal import first_line

# Lines that notebooks accept and Python does not: magics, commands of the shell, questions.
MAGIC = re.compile(r"\s*([\w, ]+=\s*)?[!%]|\s*\?|\s*[\w.]+\?{1,2}\s*$")
KEPT = re.compile(r"%%(time|timeit|capture|prun)\b")  # magics whose cell is Python
# Calls that read, train or fetch; a needed value that they make must be written down instead.
READS = {
    *("open", "input", "load", "safe_load", "load_state_dict", "load_data", "read_csv", "imread"),
    *("read_text", "read_bytes", "loadtxt", "genfromtxt", "urlopen", "urlretrieve", "mount"),
    *("download", "download_url", "DataLoader", "ImageFolder", "MNIST", "FashionMNIST", "EMNIST"),
    *("KMNIST", "QMNIST", "CIFAR10", "CIFAR100", "backward", "step", "fit"),
    *("system", "popen", "Popen", "check_call", "check_output"),
}
FETCHERS = {"requests", "subprocess", "urllib", "wandb", "drive"}  # modules whose every call reads
LAYERS = {"Module", "Sequential", "ModuleList", "ScriptModule", "LightningModule"}


@dataclass
class Part:
    """A file, or one cell of a notebook: its name in messages, its lines, and its syntax tree."""

    name: str  # this is also the code's file name, so that errors name it
    lines: list[str]
    tree: ast.Module


@dataclass
class Statement:
    """A statement at module level, the names that it defines there, and those that it reads."""

    node: ast.stmt
    part: Part
    binds: set[str]
    reads: set[str]

    @property
    def place(self) -> str:
        return f"{self.part.name}, line {self.node.lineno}"

    @property
    def defines(self) -> bool:
        return isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)

    @property
    def imports(self) -> bool:
        return isinstance(self.node, ast.Import | ast.ImportFrom)


def import_network(target: str) -> tuple[Path, Callable[[], nn.Module]]:
    """Return the file of FILE.py, FILE.ipynb, or either with :Name, and what makes its network.

    Without a name, it is the only network that the file defines, apart from parts of others. This
    executes what the network needs. Raises UsageError for an error in it, or if there is no such
    class or function.
    """
    before, _, name = target.rpartition(":")
    path, name = (Path(before), name) if name.isidentifier() and before else (Path(target), "")
    if path.suffix.lower() not in (".py", ".ipynb") or not path.is_file():
        raise UsageError(f"There is no Python file {path}. Give FILE.py, or FILE.py:Name.")
    statements = [statement for part in read_parts(path) for statement in split(part)]
    name = name or only_network(path, statements)
    if not any(name in statement.binds for statement in statements):
        stars = [statement for statement in statements if "*" in statement.binds]
        if not stars:
            found = ", ".join(networks(statements)) or "no network"
            raise UsageError(f"{path}: there is no {name} at module level; it defines {found}.")
    chosen = needed({name}, statements)
    with errors_of(path), neighbours(path):
        module = execute(path, chosen)
        make = vars(module).get(name)
        if isinstance(make, nn.Module):  # made again each time, so that a seed fixes its weights
            return path, lambda: vars(execute(path, chosen))[name]
    check_maker(path, name, make, statements)
    return path, make


def check_maker(path: Path, name: str, make, statements: list[Statement]) -> None:
    """Raises UsageError, with advice, unless `make` makes a network without arguments."""
    if not callable(make):
        what = "an nn.Module, but no network" if make is None else type(make).__name__
        raise UsageError(f"{path}: {name} is not a class or function that makes a network: {what}.")
    if inspect.isclass(make) and not issubclass(make, nn.Module):
        raise UsageError(f"{path}: {name} is not a network's class: it is not an nn.Module.")
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return
    wanted = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if wanted:
        calls = [ast.unparse(call) for call in calls_of(name, statements)]
        call = calls[0] if calls else f"{name}({', '.join(f'{arg}=…' for arg in wanted)})"
        raise UsageError(
            f"{path}: {name} needs {' and '.join(wanted)}. Add a function that makes the network "
            f"with your values, such as\ndef make(): return {call}\nand check {path}:make"
        )


# ---- reading -----------------------------------------------------------------------------------


def read_parts(path: Path) -> list[Part]:
    """Read a file as one part, or the code cells of a notebook, without magics and commands.

    A notebook is recognised by its content, because some are saved as .py. Raises UsageError for a
    file that is neither.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text("latin-1")
    if not (path.suffix.lower() == ".ipynb" or text.lstrip().startswith("{")):
        part, left_out = parsed(str(path), text)
        if left_out:  # in a file they are a mistake, which may be passed over
            told = [f"line {number}, {part.lines[number - 1].strip()}" for number in left_out]
            print(f"{path}: what works only in notebooks is left out: {'; '.join(told)}")
        return [part]
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a notebook that can be read: {first_line(error)}."
        ) from error
    named = [(f"{path}, cell {number}", source) for number, source in enumerate(sources, 1)]
    return [
        parsed(name, source)[0]
        for name, source in named
        if not source.lstrip().startswith("%%") or KEPT.match(source.lstrip())
    ]


def parsed(name: str, text: str) -> tuple[Part, list[int]]:
    """Return the text as Python, and the lines that were left out. Raises UsageError for others."""
    lines, left_out = text.splitlines(), []
    code = [*lines]
    while True:
        try:
            tree = ast.parse("\n".join(code) + "\n")
            break
        except SyntaxError as error:
            number = min(max(error.lineno or 1, 1), len(code) or 1)
            reason = f"SyntaxError: {error.msg}"
        except ValueError as error:
            raise UsageError(f"{name}: {first_line(error)}.") from error
        found = magic_near(code, number)
        if found is None:
            raise UsageError(f"{name}, line {number}: {reason}")
        indent = code[found - 1][: -len(code[found - 1].lstrip())]
        going_on = True
        for i in range(found - 1, len(code)):  # with the lines that continue it
            if not going_on:
                break
            going_on = code[i].rstrip().endswith("\\")
            code[i] = f"{indent}pass" if i == found - 1 else ""
            left_out.append(i + 1)
    return Part(name, lines, tree), left_out


def magic_near(code: list[str], number: int) -> int | None:
    """Return the line that Python complained of, or one just before, if only notebooks have it."""
    for line in range(number, max(0, number - 3), -1):
        if code and MAGIC.match(code[line - 1]):
            return line
    return None


def split(part: Part) -> list[Statement]:
    """Return the statements at module level, and those that only a script executes.

    Statements below `if __name__ == "__main__"` count: a network may read what they set.
    """
    nodes = []
    for node in part.tree.body:
        main = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        nodes += node.body if main else [node]
    return [Statement(node, part, *names_of(node)) for node in nodes]


def names_of(node: ast.stmt) -> tuple[set[str], set[str]]:
    """Return the names that a statement defines in the module, and those that it reads from there,
    at once or in a later call.
    """
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        return ({"*"} if "*" in names else names), set()
    top = symtable.symtable(ast.unparse(node), "statement", "exec")
    binds = {
        symbol.get_name()
        for symbol in top.get_symbols()
        if symbol.is_assigned() or symbol.is_imported()
    }
    reads = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    inner = [*top.get_children()]
    while inner:
        table = inner.pop()
        inner += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                reads.add(symbol.get_name())
    return binds, reads


# ---- which network -----------------------------------------------------------------------------


def networks(statements: list[Statement]) -> dict[str, ast.ClassDef]:
    """Return the classes that look like networks or layers, by name."""
    found = {}
    for node in (
        statement.node for statement in statements if isinstance(statement.node, ast.ClassDef)
    ):
        bases = {ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases}
        if bases & (LAYERS | found.keys()) or (bases and "forward" in methods(node)):
            found[node.name] = node
    return found


def methods(node: ast.ClassDef) -> dict[str, ast.arguments]:
    return {method.name: method.args for method in node.body if isinstance(method, ast.FunctionDef)}


def wants(arguments: ast.arguments | None) -> int:
    """Return how many arguments besides self are required."""
    return required(arguments) - 1 if arguments else 0


def required(arguments: ast.arguments) -> int:
    """Return how many arguments are required."""
    missing = sum(default is None for default in arguments.kw_defaults)
    return len(arguments.posonlyargs + arguments.args) - len(arguments.defaults) + missing


def only_network(path: Path, statements: list[Statement]) -> str:
    """Return the file's network. Raises UsageError, with the choice, if there are several.

    Classes that others are made of do not count, nor do losses, which take two arguments, nor
    classes that need arguments, if there is one without. If a network is made of such classes at
    module level, or by a function without arguments, it is chosen instead of them.
    """
    found = networks(statements)
    made = made_or_imported(path, statements)
    bodies = [part for node in found.values() for part in node.body]
    bodies += [statement.node for statement in statements if statement.binds & {*made}]
    used = {name for part in bodies for name in loaded(part)}
    bases = {name: {*map(ast.unparse, found[name].bases)} & found.keys() for name in found}
    learns = {name for name in found if bases[name] or any(map(has_weights, found[name].body))}
    rules = [
        lambda name: wants(methods(found[name]).get("forward")) <= 1,
        lambda name: name not in used,
        lambda name: wants(methods(found[name]).get("__init__")) <= 0,
        lambda name: name in learns,
        lambda name: any(calls_of(name, statements)),
    ]
    names = [*found]
    for rule in rules:
        names = [*filter(rule, names)] or names if len(names) > 1 else names
    if all(wants(methods(found[name]).get("__init__")) > 0 for name in names):
        names = makers({*names}, statements) or made or names
    if len(names) == 1:
        return names[0]
    listed = ", ".join(names) or "no network"
    raise UsageError(f"{path} defines {listed}. Say what to check: {path}:Name")


def makers(names: set[str], statements: list[Statement]) -> list[str]:
    """Return the functions without arguments that return a call of one of these classes."""
    return [
        statement.node.name
        for statement in statements
        if isinstance(statement.node, ast.FunctionDef)
        and not required(statement.node.args)
        and any(
            isinstance(part, ast.Return)
            and isinstance(part.value, ast.Call)
            and root(part.value) in names
            for part in ast.walk(statement.node)
        )
    ]


def made_or_imported(path: Path, statements: list[Statement]) -> list[str]:
    """Return the networks of a file without classes: an `nn.Sequential`, or an imported one."""
    names = []
    for node in (statement.node for statement in statements):
        made = isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if made and ast.unparse(node.value.func).split(".")[-1] == "Sequential":
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            file = path.parent / f"{node.module.replace('.', '/')}.py"
            if file.is_file():
                theirs = networks(
                    [statement for part in read_parts(file) for statement in split(part)]
                )
                names += [
                    alias.asname or alias.name for alias in node.names if alias.name in theirs
                ]
    return [*dict.fromkeys(names)]


def loaded(node: ast.AST) -> set[str]:
    """Return the names that a node reads, except for those in super(Net, self)."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    own = [call for call in ast.walk(node) if isinstance(call, ast.Call) and root(call) == "super"]
    return names - {ast.unparse(argument) for call in own for argument in call.args}


def has_weights(node: ast.AST) -> bool:
    """Return whether a node calls a layer with weights, or names a parameter."""
    names = {getattr(part, "attr", getattr(part, "id", "")) for part in ast.walk(node)}
    return any(re.match(r"(Lazy)?(Conv|Linear)|Parameter$", str(name)) for name in names)


def calls_of(name: str, statements: list[Statement]) -> Iterator[ast.Call]:
    """Return where the module, or a function of it, calls something of that name."""
    for statement in statements:
        if not isinstance(statement.node, ast.ClassDef):
            for node in ast.walk(statement.node):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                    yield node


# ---- what it needs -----------------------------------------------------------------------------


def needed(names: set[str], statements: list[Statement]) -> list[Statement]:
    """Return the statements that define these names, and those that they need, in turn.

    Raises UsageError for a value that only training or files can make.
    """
    names, chosen, refused = {*names}, set(), {}
    last = {
        name: i
        for i, statement in enumerate(statements)
        if statement.defines
        for name in statement.binds
    }
    assigned = {
        name
        for statement in statements
        if not (statement.defines or statement.imports)
        for name in statement.binds
    }
    grown = True
    while grown:
        grown = False
        for i, statement in enumerate(statements):
            bound = statement.binds & names
            old = (
                statement.defines
                and bound
                and last[min(bound)] != i
                and not replaced(statement, statements, i)
            )
            wanted = bound or changes(statement.node, names, assigned) or is_future(statement.node)
            if i in chosen or i in refused or old or not wanted:
                continue
            if call := reader(statement.node, statements):
                refused[i] = call
                continue
            chosen.add(i)
            grown = grown or not statement.reads <= names
            names |= statement.reads
    bound = {name for i in chosen for name in statements[i].binds}
    for i, call in refused.items():
        statement = statements[i]
        if lost := sorted(statement.binds & names - bound):
            raise UsageError(
                f"{statement.place}: {lost[0]} is made by {call}(), which is not executed here, "
                f"and the network reads it. Write its value down instead: {lost[0]} = …"
            )
    if names - bound - {*dir(builtins)} - {"__file__", "__name__"}:
        chosen |= {i for i, statement in enumerate(statements) if "*" in statement.binds}
    return [only_names(statements[i], names) for i in sorted(chosen)]


def replaced(statement: Statement, statements: list[Statement], i: int) -> bool:
    """Return whether a later class of the same name is made of this one."""
    later = [
        other for other in statements[i + 1 :] if other.defines and other.binds & statement.binds
    ]
    return any(
        statement.binds & {ast.unparse(base) for base in getattr(other.node, "bases", ())}
        for other in later
    )


def is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def changes(node: ast.stmt, names: set[str], assigned: set[str]) -> bool:
    """Return whether a statement changes one of these names without defining it, as in `Net.p =
    0.1`, `config["p"] = 0.1`, or `parser.add_argument(…)`.
    """
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    if any(
        isinstance(target, ast.Attribute | ast.Subscript) and root(target) in names
        for target in targets
    ):
        return True
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    call = node.value
    if isinstance(call.func, ast.Name):
        return call.func.id == "setattr" and root(call.args[0]) in names if call.args else False
    return root(call.func) in names & assigned


def root(node: ast.expr) -> str | None:
    """Return the name that an expression such as a.b[c] begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def reader(
    node: ast.stmt, statements: list[Statement], seen: frozenset = frozenset()
) -> str | None:
    """Return the call in a statement that trains, loads data or opens files, or None.

    A definition makes no call yet; its calls count where it is called.
    """
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Import | ast.ImportFrom):
        return None
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        if name.split(".")[-1] in READS or name.split(".")[0] in FETCHERS:
            return name
        if name in seen:
            continue
        for statement in statements:
            if isinstance(statement.node, ast.FunctionDef) and statement.node.name == name:
                for inner in statement.node.body:
                    if found := reader(inner, statements, seen | {name}):
                        return found
    return None


def only_names(statement: Statement, names: set[str]) -> Statement:
    """Return an import without the names that nothing needs; they may not be installed here."""
    if not statement.imports or "*" in statement.binds or is_future(statement.node):
        return statement
    kept = [
        alias
        for alias in statement.node.names
        if (alias.asname or alias.name).split(".")[0] in names
    ]
    fields = {**dict(ast.iter_fields(statement.node)), "names": kept}
    node = ast.copy_location(type(statement.node)(**fields), statement.node)
    return Statement(node, statement.part, statement.binds, statement.reads)


# ---- executing ---------------------------------------------------------------------------------


def execute(path: Path, chosen: list[Statement]) -> types.ModuleType:
    """Return a module in which these statements have been executed, with an empty command line."""
    module = types.ModuleType(f"checked.{path.stem}")
    module.__file__ = str(path.absolute())
    sys.modules[module.__name__] = module
    before, sys.argv = sys.argv, [str(path)]
    try:
        for part_id in dict.fromkeys(id(statement.part) for statement in chosen):
            ours = [statement for statement in chosen if id(statement.part) == part_id]
            name = str(Path(ours[0].part.name).absolute())
            lines = [f"{line}\n" for line in ours[0].part.lines]
            linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
            nodes = [
                statement.node
                for i, statement in enumerate(ours)
                if i == 0 or not is_future(statement.node)
            ]
            tree = ast.Module(nodes, [])
            exec(compile(tree, name, "exec", dont_inherit=True), vars(module))
    finally:
        sys.argv = before
    return module


@contextlib.contextmanager
def neighbours(path: Path) -> Iterator[None]:
    """While active, modules beside the file are imported first, as when the file is run.

    Afterwards they are forgotten, so that the next file, and the library, import their own.
    """
    folder = path.absolute().parent
    sys.path.insert(0, str(folder))
    before = {*sys.modules}
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in {*sys.modules} - before:
            file = getattr(sys.modules[name], "__file__", None)
            theirs = file and Path(file).is_relative_to(folder) and not is_installed(Path(file))
            if theirs and not name.startswith("checked."):
                del sys.modules[name]


def is_installed(file: Path) -> bool:
    """Return whether a file is Python's, a package's or ours, rather than the student's."""
    ours = Path(__file__).parents[2]
    folders = [ours / "s4lib", ours / "backprop", Path(traceback.__file__).parent]
    return (
        "site-packages" in file.parts
        or (file.parent == Path(__file__).parent and file.suffix == ".py" and file.is_file())
        or any(file.is_relative_to(folder) for folder in folders)
    )


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn an error from the file `path`, or one beside it, into a UsageError with the line."""
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        folder = path.absolute().parent
        frames = [
            (Path(frame.filename), frame.lineno)
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        if isinstance(error, SyntaxError) and error.filename:
            frames.append((Path(error.filename), error.lineno))
        lines = [
            f"{path.parent / file.relative_to(folder)}, line {line}"
            for file, line in frames
            if file.is_relative_to(folder) and not is_installed(file)
        ]
        if not lines:
            raise
        reason = str(getattr(error, "msg", error)).strip().split("\n")[0]
        raise UsageError(f"{lines[-1]}: {type(error).__name__}: {reason}") from error
