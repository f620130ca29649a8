"""Report on a course: points, what was not graded, and what a teacher should look at."""

import argparse
import ast
import csv
import datetime
import hashlib
import io
import json
import re
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from notebooks.assignment import submission
from notebooks.assignment.grade import FORMATS, grade_all, warning
from notebooks.assignment.sandbox import SECONDS

SOLVED = {  # names of the course's code that are answers, by module
    "backprop.network": {"forward", "errors", "gradients", "train"},
    "backprop.layers": None,
    "backprop.tape": None,
    "notebooks.assignment.slips": None,
    "notebooks.assignment.model_answer": None,
    "notebooks.assignment.part1": None,
    "notebooks.assignment.part2": None,
    "notebooks.assignment.part3": None,
    "notebooks.assignment.compare": None,
    "notebooks.assignment.workbook": None,
    "s4lib": {"receptive_fields", "MNISTNet"},
    "s4lib.receptive_field": None,
    "s4lib.model": None,
    "s4lib.train": {"train_epoch", "evaluate"},
}
METHODS = {"hold_out"}  # attributes that answer an exercise, of any object
DEVICES = {  # attributes by which code reaches into other code
    *("_getframe", "setattr", "f_locals", "f_back", "__code__", "__globals__", "modules", "gc"),
    *("builtins", "exec", "run_cell", "set_custom_exc", "input_transformers_cleanup", "sqlite3"),
    *("_exit", "fork", "import_module", "__import__", "getsource", "run_path", "run_module"),
    *("spec_from_file_location", "run_line_magic", "run_cell_magic", "_ih", "_oh"),
}
CODE = re.compile(  # the files of answers, in commands and in text
    r"\b(backprop[./](network|layers|tape)|s4lib[./](model|train|receptive_field)|model_answer"
    r"|assignment[./](part\d|slips|compare)|(network|layers|tape|slips|part\d)\.py)\b"
)
LIES = ("eq", "ne", "lt", "le", "gt", "ge", "sub", "rsub", "abs", "float", "array", "iter", "bool")
PATCHED = {"np", "numpy", "torch", "sys", "builtins", "network", "compare", "part1", "wire"}
PATCHED |= {"json", "pickle", "signal", "struct", "os", "math"}
SHIPPED = ("backprop/backpropagation.xlsx", "s4lib/weights.pt")
EXPERIMENT = "part3_experiment"  # experiment.json belongs to this part's table
PROJECT = Path(__file__).resolve().parents[2]


def overview(folder: Path, jobs: int = 0, students: Iterable[str] = ()) -> list[dict]:
    """Return a row for every student in `folder`: points by part, and remarks.

    With `jobs` they are graded now, that many at a time; with `students` only these. The results
    are kept in `grades.json` beside the folder. If nbgrader has a gradebook, its points come first.
    """
    sources = [p for p in sorted(folder.iterdir()) if p.is_dir() or p.suffix == ".zip"]
    sources = [path for path in sources if not path.name.startswith(".")]
    kept = folder.parent / "grades.json"
    results = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    unknown = {*students} - {*map(student_of, sources)}
    if unknown:
        raise CommandError(f"{folder} holds nothing of {', '.join(sorted(unknown))}.")
    anew = [path for path in sources if student_of(path) in {*students}]
    anew = anew or (sources if jobs else [])
    for result in grade_all(anew, jobs):
        results[result["student"]] = result
    if anew:
        kept.write_text(json.dumps(results, ensure_ascii=False, indent=1), "utf-8")

    collected = (folder.parent / "downloaded").is_dir()
    facts = {student_of(path): facts_of(path, collected) for path in sources}
    books = gradebook(folder.parent / "gradebook.db")
    due = due_date(folder.parent / "nbgrader_config.py")
    rows = [row(name, facts[name], results.get(name), books.get(name), due) for name in facts]
    for name, remark in [*doubles(facts), *numbers(facts)]:
        next(entry for entry in rows if entry["student"] == name)["remarks"].append(remark)
    return rows


def student_of(path: Path) -> str:
    return path.name.removesuffix(".zip")


def row(name: str, facts: dict, result: dict | None, book: dict | None, due) -> dict:
    """Return the remarks on one student."""
    made = {"student": name, "number": facts["number"], "parts": {}, "remarks": []}
    for stem in submission.stems():
        part = result["parts"][stem] if result else {}
        points = {"automatic": part.get("points"), "people": None}
        points |= (book or {}).get(stem, {})
        undecided = ", ".join(points.pop("undecided", [])) or part.get("not_graded", "")
        why = facts["problems"].get(stem) or undecided
        if not why and points["automatic"] is None:
            why = "has not been graded yet"
        made["parts"][stem] = {**points, "not_graded": why}
        notes = dict.fromkeys([*facts["notes"].get(stem, []), *part.get("notes", [])])
        made["remarks"] += [f"{stem}: {note}" for note in notes]
        asked = part.get("number")
        if asked is not None and facts["number"] and key(str(asked)) != key(facts["number"]):
            text = f"its checks were asked with the number {asked}, its first cell has "
            made["remarks"].append(f"{stem}: {text}{facts['number']}")
        for check in part.get("checks", []):
            if check["name"] == "check-run" and "history has" in check["output"]:
                line = next(x for x in check["output"].splitlines() if "history has" in x)
                made["remarks"] += [f"{stem}: {line.lstrip('✗ ')}"] * line.startswith("✗")
    made["remarks"] += facts["remarks"]
    if due and facts["time"] and facts["time"] > due:
        made["remarks"].append(f"late: {facts['time']:%Y-%m-%d %H:%M}, due {due:%Y-%m-%d %H:%M}")
    if "_LATE_" in name:
        made["remarks"].append("late: Canvas says so in the name")
    return made


def facts_of(path: Path, collected: bool = False) -> dict:
    """Return what a submission shows without being run; `collected` as in `handed_in`."""
    made = {"number": None, "problems": {}, "notes": {}, "remarks": [], "files": {}, "time": None}
    made["time"] = handed_in(path, collected)
    with tempfile.TemporaryDirectory(prefix="s4-") as folder:
        folder = Path(folder, "session4")
        for stem, notebook in submission.collect(path, folder).items():
            if notebook.problem:
                made["problems"][stem] = notebook.problem
                continue
            made["notes"][stem] = notebook.notes
            code = own_code(notebook.cells, stem)
            made["remarks"] += [f"{stem}: {text}" for text in suspicious(code)]
            if answered := submission.answered(notebook.cells, released(stem)):
                text = "\n".join(re.sub(r"#.*", "", part).strip() for part in code.values())
                made["files"][f"{stem}'s code"] = digest(text.encode()) if answered > 1 else None
            for cell in notebook.cells:
                found = re.match(r"student = ['\"]?([^'\"#]*)", cell["source"])
                if "parameters" in cell["metadata"].get("tags", []) and found:
                    made["number"] = found[1].strip()
        modules = {
            path.name: path.read_text("utf-8", "replace")[:1_000_000]
            for path in folder.rglob("*.py")
        }
        made["remarks"] += suspicious(modules)
        for name in ("workbook.xlsx", "run/weights.pt", "experiment.json"):
            if (folder / name).exists():
                made["files"][name] = digest((folder / name).read_bytes())
        experiment = folder / "experiment.json"
        if experiment.exists() and (folder / f"{EXPERIMENT}.ipynb").exists():
            from notebooks.assignment.part3 import held_against  # it imports PyTorch

            lines = held_against(folder / f"{EXPERIMENT}.ipynb", experiment)
            made["remarks"] += [f"{EXPERIMENT}: {line}" for line in lines]
    shipped = {digest((PROJECT / name).read_bytes()): name for name in SHIPPED}
    for name, mark in made["files"].items():
        if mark in shipped:
            made["remarks"].append(f"{name} is the course's own {shipped[mark]}")
    return made


def released(stem: str) -> list[dict]:
    return submission.cells_of(submission.RELEASE / f"{stem}.ipynb")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def handed_in(path: Path, collected: bool = False) -> datetime.datetime | None:
    """Return the time of a submission, in UTC: from `timestamp.txt`, else of the newest file.

    Files that `zip_collect` has `collected` have the time of collecting, which is no help.
    """
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for stamp in [p for p in files if p.name == "timestamp.txt"]:
        try:
            text = stamp.read_text("utf-8").strip().removesuffix(" UTC")
            when = datetime.datetime.fromisoformat(text)
            return when.astimezone(datetime.timezone.utc) if when.tzinfo else in_utc(when)
        except ValueError:
            continue
    newest = max((p.stat().st_mtime for p in files if not collected), default=None)
    return newest and datetime.datetime.fromtimestamp(newest, datetime.timezone.utc)


def in_utc(when: datetime.datetime) -> datetime.datetime:
    return when.replace(tzinfo=datetime.timezone.utc)


def due_date(config: Path) -> datetime.datetime | None:
    """Return `due = "2026-12-01 23:59"` of nbgrader's configuration, in local time."""
    found = re.search(
        r"^due = [\"']([^\"']+)[\"']", config.read_text("utf-8") if config.exists() else "", re.M
    )
    try:
        return datetime.datetime.fromisoformat(found[1]).astimezone() if found else None
    except ValueError as error:
        raise CommandError(
            f"due is not a date in {config}: write it as 2026-12-01 23:59"
        ) from error


def own_code(cells: list[dict], stem: str) -> dict[str, str]:
    """Return the student's own code, by cell."""
    given = {submission.squeezed(cell) for cell in released(stem)}
    return {
        submission.name_of(cell) or f"cell {k}": cell["source"]
        for k, cell in enumerate(cells)
        if cell["cell_type"] == "code" and submission.squeezed(cell) not in given
        if "parameters" not in cell["metadata"].get("tags", [])
    }


def suspicious(code: dict[str, str]) -> list[str]:
    """Return imports of the course's answers, and attempts to reach the checks, by cell."""
    remarks = []
    for where, source in code.items():
        commands = [
            text for text in re.findall(r"^\s*([!%].*)$", source, re.M) if CODE.search(text)
        ]
        remarks += [f"{where} runs {text}" for text in commands]
        source = re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.M)
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        found = dict.fromkeys([*imports(tree), *devices(tree), *liars(tree)])
        remarks += [f"{where} uses {', '.join(found)}"] if found else []
    return remarks


def imports(tree: ast.AST) -> list[str]:
    """Return the course's answers that a cell imports, or reaches by an attribute."""
    found, names = [], {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                wanted = SOLVED.get(node.module, set())
                if alias.name == "*":
                    found += [f"{node.module}.{name}" for name in sorted(names & (wanted or names))]
                if inner in SOLVED or wanted is None or alias.name in wanted:
                    found.append(inner)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if SOLVED.get(alias.name, ()) != ()]
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            found.append(f".{node.attr}")
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in SOLVED:
            found.append(ast.unparse(node))
    return found + written(tree)


def written(tree: ast.AST) -> list[str]:
    """Return text, outside a cell's words, that names the course's answers, to import them."""
    words = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [repr(node.value[:60]) for node in texts if id(node) not in words
            and (node.value in SOLVED or CODE.search(node.value))]  # fmt: skip


def liars(tree: ast.AST) -> list[str]:
    """Methods with which an object can claim to be equal to anything."""
    found = []
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in kind.body:
            names, made = [], node
            if isinstance(node, ast.FunctionDef):
                names = [node.name]
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                names = [ast.unparse(target) for target in node.targets]
                made = node.value
            lies = {f"__{name}__" for name in LIES} & {*names}
            used = {child.id for child in ast.walk(made) if isinstance(child, ast.Name)}
            if lies and not used & {
                child.arg for child in ast.walk(made) if isinstance(child, ast.arg)
            }:
                found += [f"{kind.name}.{name}" for name in sorted(lies)]
    return found


def devices(tree: ast.AST) -> list[str]:
    """Return what in a cell reaches into other code: names, open files by number, and patches."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in DEVICES:
            found.append(node.attr)
        elif isinstance(node, ast.Name) and node.id in {*DEVICES, "eval"}:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.write", "sys.exit"):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Assign):
            targets = [target for target in node.targets if isinstance(target, ast.Attribute)]
            found += [
                ast.unparse(target) for target in targets if ast.unparse(target.value) in PATCHED
            ]
    return found


def doubles(facts: dict[str, dict]) -> list[tuple[str, str]]:
    """Return the students who have handed in the same as another."""
    owners = {}
    for name, submitted in facts.items():
        for file, mark in submitted["files"].items():
            if mark:
                owners.setdefault((file, mark), []).append(name)
    found = []
    for (file, _), names in owners.items():
        for name in names if len(names) > 1 else []:
            others = ", ".join(other for other in names if other != name)
            found.append((name, f"{file} is the same in the submission of {others}"))
    return found


def numbers(facts: dict[str, dict]) -> list[tuple[str, str]]:
    """Return student numbers that are empty, another's, or not the folder's."""
    keys = {name: key(submitted["number"]) for name, submitted in facts.items()}
    counts = Counter(filter(None, keys.values()))
    folders = {name: key(name) for name in facts}
    strange = [n for n, k in keys.items() if k and k not in folders[n]]
    by_name = len(strange) <= len(facts) / 2  # otherwise folders are not named by numbers
    found = []
    for name, submitted in facts.items():
        if submitted["number"] == "":
            found.append((name, "no student number: these are the class's numbers"))
        elif keys[name] and counts[keys[name]] > 1:
            others = ", ".join(n for n in keys if keys[n] == keys[name] and n != name)
            found.append((name, f"the number {submitted['number']} is also the number of {others}"))
        if name in strange and by_name:
            found.append((name, f"the number in the notebook is {submitted['number']}"))
    return found


def key(number: str | None) -> str:
    """Return the part of a student number that counts, as in `personal_numbers`."""
    return "".join(filter(str.isalnum, (number or "").casefold())).lstrip("0")


def gradebook(path: Path) -> dict[str, dict[str, dict]]:
    """Return {student: {notebook: points}} of nbgrader's gradebook.

    Points are "automatic" or given by "people"; checks that were not graded are "undecided".
    """
    if not path.exists():
        return {}
    query = """
        select assignment.student_id, base.name, cell.name, grade.auto_score, grade.manual_score
        from grade
        join submitted_notebook as notebook on grade.notebook_id = notebook.id
        join submitted_assignment as assignment on notebook.assignment_id = assignment.id
        join notebook as base on notebook.notebook_id = base.id
        join base_cell as cell on grade.cell_id = cell.id
    """
    made = {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as book:
        for student, stem, name, automatic, manual in book.execute(query):
            none = {"automatic": 0.0, "people": None, "undecided": []}
            part = made.setdefault(student, {}).setdefault(stem, none)
            if manual is not None:
                part["people"] = (part["people"] or 0) + manual
            elif automatic is not None:
                part["automatic"] += automatic
            elif name.startswith("check-"):
                part["undecided"].append(name)
    return made


def as_text(rows: list[dict]) -> str:
    """Return the overview as aligned text, with remarks below each student."""
    stems = submission.stems()
    heads = ["student", "number", *(stem.partition("_")[0] for stem in stems), "remarks"]
    lines = [heads]
    for row in rows:
        cells = [points_of(row["parts"][stem]) for stem in stems]
        lines.append([row["student"], row["number"] or "", *cells, str(len(row["remarks"]) or "")])
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    made = []
    for index, line in enumerate(lines):
        made.append(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        )
        if index:
            row = rows[index - 1]
            made += [f"    {stem} not graded: {part['not_graded']}"
                     for stem, part in row["parts"].items() if part["not_graded"]]  # fmt: skip
            made += [f"    {text}" for text in row["remarks"]]
    return "\n".join(made)


def points_of(part: dict) -> str:
    """Return the automatic points, and those given by people, if there are any."""
    if part["automatic"] is None or (part["not_graded"] and not part["automatic"]):
        return "not graded"
    people = f" + {part['people']:g}" if part["people"] is not None else ""
    return f"{part['automatic']:g}{people}" + " (?)" * bool(part["not_graded"])


def as_csv(rows: list[dict]) -> str:
    """Return the overview as a table of comma-separated values."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    stems = submission.stems()
    heads = [f"{stem} {kind}" for stem in stems for kind in ("automatic", "people", "not graded")]
    writer.writerow(["student", "number", *heads, "remarks"])
    for row in rows:
        cells = []
        for stem in stems:
            part = row["parts"][stem]
            blank = part["not_graded"] and not part["automatic"]
            cells += ["" if blank else part["automatic"], part["people"], part["not_graded"]]
        writer.writerow([row["student"], row["number"], *cells, "; ".join(row["remarks"])])
    return buffer.getvalue().rstrip("\n")


# Commands


class CommandError(ValueError):
    """A mistake in a command, in one line. (`UsageError` would import PyTorch.)"""


def grade_command(args) -> int:
    """Print or write the automatic points; return 1 if something could not be graded."""
    for path in args.folders:
        if not path.exists():
            raise CommandError(f"There is no folder {path}. Give the folder of a submission.")
    if args.format == "gradescope" and len(args.folders) > 1:
        raise CommandError("Gradescope asks for one submission at a time: give one folder.")
    if note := warning():
        print(note, file=sys.stderr)
    results = [*grade_all(args.folders, args.jobs, args.seconds)]
    text = FORMATS[args.format](results)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")
    else:
        print(text)
    return int(any(part["not_graded"] for result in results for part in result["parts"].values()))


def report_command(args) -> int:
    if not args.folder.is_dir():
        raise CommandError(
            f"There is no folder {args.folder}: it holds a folder for every student."
        )
    if (args.jobs or args.student) and (note := warning()):
        print(note, file=sys.stderr)
    rows = overview(args.folder, args.jobs, args.student)
    if not rows:
        raise CommandError(f"{args.folder} is empty: it holds a folder for every student.")
    print(as_csv(rows) if args.csv else as_text(rows))
    return 0


def add_commands(commands) -> None:
    """Add the commands `grade` and `report` to a parser."""
    text = "a student's automatic points, from the notebooks alone"
    command = commands.add_parser("grade", help=text, description=text)
    command.set_defaults(run=grade_command)
    add = command.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="what a student handed in")
    add("--format", choices=FORMATS, default="json", help="what is to read it (json)")
    add("--out", type=Path, metavar="FILE", help="where it is written (printed)")
    add("--jobs", type=int, default=1, help="students at a time (1)")
    text = f"of computing, for a cell or a call ({SECONDS})"
    add("--seconds", type=float, default=SECONDS, help=text)

    text = "one overview of a course: points, and what to look at"
    command = commands.add_parser("report", help=text, description=text)
    command.set_defaults(run=report_command)
    add = command.add_argument
    text = "it holds a folder for every student (submitted)"
    add("folder", nargs="?", type=Path, default=Path("submitted"), help=text)
    add("--csv", action="store_true", help="as a table for a spreadsheet")
    add("--jobs", type=int, default=0, help="grade all now, so many at a time (what was graded)")
    add("--student", action="append", default=[], metavar="NAME", help="grade this one again")


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: 1 if something is not graded, 2 for a mistake in the command."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.assignment")
    add_commands(parser.add_subparsers(required=True, metavar="command"))
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except (CommandError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
