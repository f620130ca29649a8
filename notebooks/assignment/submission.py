"""Turn what a student handed in into the released cells with the student's answers.

Every part is graded in the cells of the release, in their order, with the student's answers in them
and the student's further cells between them. So a cell that was deleted, copied, split or has lost
its mark costs at most its own exercise. Nothing in a submission is executed here.
"""

import ast
import copy
import json
import re
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

RELEASE = Path(__file__).parent / "release/session4"
LARGEST, MOST = 300e6, 5000  # bytes and files of a submission, unpacked
OURS = {"s4lib", "backprop", "notebooks"}  # they would be imported instead of the course's own
CLUTTER = {"__MACOSX", ".ipynb_checkpoints", "__pycache__", ".git", ".venv", "feedback"}
SOLUTION = "### BEGIN SOLUTION"
MOST_SHOWN = 5_000_000  # characters of the outputs of a cell
SAFE = ("text/plain", "text/latex", "image/png")
NOTHING = "no notebook was handed in (the course's own source does not count)"


class Notebook(NamedTuple):
    """A student's notebook of one part, in the cells of the release."""

    cells: list[dict]
    notes: list[str]  # what was put right, and what is missing
    problem: str = ""  # the reason why it can't be graded


def stems() -> list[str]:
    """Return the names of the release's notebooks, without ending."""
    return sorted(path.stem for path in RELEASE.glob("*.ipynb"))


def collect(source: Path, into: Path) -> dict[str, Notebook]:
    """Put a submission in order in the new folder `into`, and return its notebooks by part.

    `source` is a folder or an archive, with any files in any places. In `into` every part has its
    own name, beside `workbook.xlsx`, `run` and `experiment.json`.
    """
    everything = into / ".unpacked"
    unpack(source, everything)
    files = sorted(path for path in everything.rglob("*") if path.is_file())
    notebooks, read, broken = {}, {}, {}
    for path in files:
        if path.suffix.lower() == ".ipynb":
            try:
                read[path] = cells_of(path)
            except ValueError as error:
                broken[path] = str(error)
    for stem in stems():
        release = cells_of(RELEASE / f"{stem}.ipynb")
        found = {p: restore(c, release) for p, c in read.items() if belongs(p, c, stem)}
        damaged = [p for p in broken if named(p, stem)]
        if not found and damaged:
            notebooks[stem] = Notebook([], [], f"{damaged[0].name}: {broken[damaged[0]]}")
        elif not found:
            notebooks[stem] = Notebook([], [], NOTHING)
        else:
            notebooks[stem] = write_best(found, stem, release, everything, into)
    arrange(files, everything, into)
    shutil.rmtree(everything)
    return notebooks


def write_best(found: dict[Path, Notebook], stem: str, release, root: Path, into: Path) -> Notebook:
    """Write the notebook with the most answers, and note it if the choice was not obvious."""

    def rank(path):
        where = path.relative_to(root)
        return answered(found[path].cells, release), path.stem == stem, -len(where.parts)

    best = max(sorted(found), key=rank)
    chosen, notes = found[best], [*found[best].notes]
    written = sorted(p for p in found if answered(found[p].cells, release))
    if not called(best, f"{stem}.ipynb"):
        notes.insert(0, f"it is called {best.name}")
    if len(written) > 1:
        others = ", ".join(str(path.relative_to(root)) for path in written if path != best)
        notes.insert(0, f"of several, {best.relative_to(root)} was taken, not {others}")
    whole = json.loads((RELEASE / f"{stem}.ipynb").read_text("utf-8"))
    whole["cells"] = chosen.cells
    (into / f"{stem}.ipynb").write_text(json.dumps(whole, ensure_ascii=False, indent=1), "utf-8")
    return Notebook(chosen.cells, notes)


def arrange(files: list[Path], root: Path, into: Path) -> None:
    """Copy the files that the notebooks need to their places, and the others unchanged."""
    base = shallowest(files, root)
    rest = [path for path in files if path.suffix.lower() != ".ipynb"]
    for path in rest:
        where = path.relative_to(base) if path.is_relative_to(base) else path.relative_to(root)
        if not OURS & {*where.parts[:-1]} and where.parts[0] != "session4":
            copy_to(path, into / where)
    books = [path for path in rest if path.suffix.lower() == ".xlsx"]
    own = [p for p in books if "backprop" not in p.parts]
    exact = [path for path in own if called(path, "workbook.xlsx")]
    wanted = {"workbook.xlsx": exact or own[: len(own) == 1]}
    for name in ("experiment.json", "timestamp.txt"):
        wanted[name] = [path for path in rest if called(path, name)]
    runs = [path for path in rest if called(path, "history.json")]
    runs.sort(key=lambda path: path.parent.name != "run")
    for file in runs[:1] and [p for p in rest if p.parent == runs[0].parent]:
        for name in ("history.json", "weights.pt"):
            if called(file, name):
                wanted.setdefault(f"run/{name}", []).append(file)
    for name, places in wanted.items():
        if places and not (into / name).exists():
            copy_to(min(places, key=lambda p: (len(p.parts), len(p.name))), into / name)


def called(path: Path, name: str) -> bool:
    """Return whether a file has a name, or the form that a platform or a browser gives it.

    Such as `history-1.json`, `history (1).json` or `doejane_4711_815_history.json`.
    """
    stem, _, suffix = name.rpartition(".")
    copy = r"(?:[ _-]*(?:copy|\(\d+\)|\d+))*"
    return re.fullmatch(rf"(?:.*_)?{stem}{copy}\.{suffix}", path.name, re.I) is not None


def shallowest(files: list[Path], root: Path) -> Path:
    """Return the folder with the notebooks of a submission."""
    folders = [path.parent for path in files if path.suffix.lower() == ".ipynb"]
    return min(folders, key=lambda path: len(path.parts), default=root)


def copy_to(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    shutil.copystat(path, target)
    target.chmod(0o644)


def unpack(source: Path, into: Path) -> None:
    """Copy a folder or an archive, and unpack archives in it, without links and clutter."""
    into.mkdir(parents=True)
    room, count = LARGEST, MOST
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        where = path.relative_to(source if source.is_dir() else source.parent)
        skip = path.is_symlink() or not path.is_file() or clutter(where.parts) or not count
        if not skip and path.stat().st_size <= room:
            room, count = room - path.stat().st_size, count - 1
            copy_to(path, into / where)
    for _ in range(3):  # archives in archives
        for archive in sorted(into.rglob("*.zip")):
            if zipfile.is_zipfile(archive):
                room -= extract(archive, archive.with_name(f"{archive.stem}.unzipped"), room)
            archive.unlink()


def clutter(names: tuple[str, ...]) -> bool:
    """Return whether a file is the system's or an editor's, by the names on its path."""
    return bool(CLUTTER & {*names}) or names[-1].startswith("._")


def extract(archive: Path, folder: Path, room: float) -> int:
    """Unpack an archive's files below `folder`, if there is room; return the bytes they take."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = 0
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist()[:MOST]:
            where = PurePosixPath(member.filename.replace("\\", "/"))
            inside = not where.is_absolute() and ".." not in where.parts
            fits = taken + member.file_size <= room
            if member.is_dir() or not inside or not fits or clutter(where.parts):
                continue
            target = folder.joinpath(*where.parts)
            try:
                content = opened.read(member)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            except (OSError, RuntimeError, zipfile.BadZipFile, NotImplementedError):
                continue  # locked with a password, or damaged: the other files count
            taken += len(content)
    return taken


# A notebook's cells


def cells_of(path: Path) -> list[dict]:
    """Return the cells of a notebook of any version; raises a ValueError for other files."""
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        whole = json.loads(content.decode(encoding, errors="replace"))
    except (ValueError, RecursionError) as error:
        raise ValueError("empty" if not content.strip() else f"no notebook: {error}") from error
    whole = whole if isinstance(whole, dict) else {}
    sheets = whole.get("worksheets") or [whole]  # before version 4
    cells = sheets[0].get("cells") if isinstance(sheets[0], dict) else None
    if not isinstance(cells, list):
        raise ValueError("no notebook: there are no cells in it")
    return [tidy(cell) for cell in cells if isinstance(cell, dict)]


def tidy(cell: dict) -> dict:
    """Return a cell with its text, its mark, its tags and its outputs, and nothing else."""
    text = cell.get("source", cell.get("input", ""))
    text = joined(text)
    metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
    mark, tags = metadata.get("nbgrader"), metadata.get("tags")
    kept = {"nbgrader": mark} if isinstance(mark, dict) else {}
    kept |= {"tags": tags} if isinstance(tags, list) and tags else {}
    kept |= {k: metadata[k] for k in ("deletable", "editable", "cellView") if k in metadata}
    kind = cell.get("cell_type") if cell.get("cell_type") in ("code", "markdown") else "raw"
    made = {"cell_type": kind, "id": str(cell.get("id", "")), "metadata": kept, "source": text}
    if kind == "code":
        made |= {"execution_count": None, "outputs": harmless(cell.get("outputs"))}
    return made


def harmless(outputs) -> list[dict]:
    """Return outputs as a notebook stores them, as text and pixels, without scripts."""
    kept, room = [], MOST_SHOWN
    for output in outputs if isinstance(outputs, list) else []:
        room -= len(str(output))
        kind = output.get("output_type") if isinstance(output, dict) else None
        if room < 0 or kind not in ("stream", "error", "display_data", "execute_result"):
            continue
        if kind == "stream":
            made = {"name": "stdout", "text": joined(output.get("text"))}
        elif kind == "error":
            lines = output.get("traceback")
            lines = [*map(str, lines)] if isinstance(lines, list) else []
            made = {"ename": str(output.get("ename")), "evalue": str(output.get("evalue"))}
            made["traceback"] = lines
        else:
            data = output.get("data") if isinstance(output.get("data"), dict) else {}
            made = {"metadata": {}, "data": {k: joined(data[k]) for k in SAFE if k in data}}
            kind = "display_data"  # not a result, because nbgrader would take a result for points
        kept.append({"output_type": kind, **made})
    return kept


def joined(text) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text or "")


def mark(cell: dict) -> dict:
    """Return what nbgrader has stored in a cell."""
    return cell["metadata"].get("nbgrader", {})


def is_parameters(cell: dict) -> bool:
    return "parameters" in cell["metadata"].get("tags", [])


def is_editable(cell: dict) -> bool:
    return is_parameters(cell) or bool(mark(cell).get("solution"))


def is_check(cell: dict) -> bool:
    return name_of(cell).startswith("check-")


def name_of(cell: dict) -> str:
    """Return a cell's grade_id, or nothing."""
    return str(mark(cell).get("grade_id") or "")


def squeezed(cell: dict) -> str:
    """Return a cell's text without what editors change."""
    return re.sub(r"\s+", " ", cell["source"]).strip()


def named(path: Path, stem: str) -> bool:
    """Return whether a file is named after a part: also `part1… (1)`, `…-Copy1`, `4711_part1…`."""
    return re.search(rf"{stem}|{stem.partition('_')[0]}(?!\d)", path.stem, re.I) is not None


def belongs(path: Path, cells: list[dict], stem: str) -> bool:
    """Return whether a notebook is one of a part, by its marks and texts more than by its name."""
    if any(SOLUTION in cell["source"] for cell in cells):
        return False  # the course's own source
    shared = {}
    for part in stems():
        release = cells_of(RELEASE / f"{part}.ipynb")
        names = {name_of(cell) for cell in release if name_of(cell)} - {"setup", "data"}
        texts = {squeezed(cell) for cell in release if name_of(cell) not in ("setup", "data")}
        shared[part] = sum(name_of(c) in names or squeezed(c) in texts for c in cells)
    most = max(shared.values(), default=0)
    return shared[stem] == most if most > 1 else named(path, stem)


def answered(cells: list[dict], release: list[dict]) -> int:
    """Return how many answer cells differ from the released ones."""
    blank = {name_of(cell): squeezed(cell) for cell in release if mark(cell).get("solution")}
    return sum(squeezed(cell) != blank.get(name_of(cell), squeezed(cell)) for cell in cells)


def restore(cells: list[dict], release: list[dict]) -> Notebook:
    """Return the release's cells, with a student's answers in them and further cells between."""
    place, last = find_places(cells, release), -1
    further = {k: [] for k in range(-1, len(release))}  # the cell of the release before it
    for index, cell in enumerate(cells):
        last = place.get(index, last)
        if index not in place:
            further[last].append(plain(cell))

    made, notes, kept = [*further[-1]], [], shown(release)
    for k, original in enumerate(release):
        own = [cells[index] for index in sorted(place) if place[index] == k]
        made += filled_in(original, own, k in kept) + further[k]
        notes += put_right(original, own)
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    checks = [cell for cell in cells if is_check(cell)]
    if checks and not any(cell.get("outputs") for cell in checks) and answered(cells, release):
        notes.insert(0, "was handed in without outputs, so nobody sees its logs and figures")
    return Notebook(made, notes)


def filled_in(original: dict, own: list[dict], keep_outputs: bool) -> list[dict]:
    """Return a released cell with a student's answer, after unmarked copies of the answer."""
    cell, before = copy.deepcopy(original), []
    if is_editable(original) and own:
        *before, cell["source"] = pieces(own, cell["cell_type"])
    if cell["cell_type"] == "code":
        cell["outputs"] = own[-1].get("outputs", []) if own and keep_outputs else []
    return [*(plain({**cell, "source": text}) for text in before), cell]


def put_right(original: dict, own: list[dict]) -> list[str]:
    """Return for the report what was missing in a student's cells or had to be corrected."""
    name, notes = name_of(original), []
    if is_editable(original) and len(own) > 1:
        notes.append(f"there were {len(own)} such cells")
    elif is_editable(original) and own and name and not name_of(own[0]):
        notes.append("its mark was missing")
    elif name and not own:
        notes.append("missing" if mark(original).get("solution") else "put back")
    elif is_check(original) and {*map(squeezed, own)} != {squeezed(original)}:
        notes.append("was changed, the original was run")
    if is_check(original) and own and silent(own[-1].get("outputs", [])):
        notes.append("was handed in with an output that is no check's")
    return [f"{name}: {note}" for note in notes]


def silent(outputs: list[dict]) -> bool:
    """Return whether a check's cell shows something, but neither ✓ nor ✗ nor an error."""
    shown = json.dumps(outputs, ensure_ascii=False)
    return bool(outputs) and not any(sign in shown for sign in ("✓", "✗", '"error"'))


def find_places(cells: list[dict], release: list[dict]) -> dict[int, int]:
    """Return {index of a student's cell: index of the same cell in the release}.

    A cell without its mark is recognised by its text, by the name that it defines or, if it
    answers in words, by its place.
    """
    place = {}
    for find in (by_mark, by_text, by_definition, by_position):
        find(cells, release, place)
    return place


def by_mark(cells: list[dict], release: list[dict], place: dict[int, int]) -> None:
    ids = {name_of(cell): k for k, cell in enumerate(release) if name_of(cell)}
    for index, cell in enumerate(cells):
        k = ids.get(name_of(cell))
        copied = k in place.values() and not mark(release[k]).get("solution")
        if k is not None and not (copied and squeezed(cell) != squeezed(release[k])):
            place[index] = k


def by_text(cells: list[dict], release: list[dict], place: dict[int, int]) -> None:
    texts = {}
    for k, released in enumerate(release):
        texts.setdefault((released["cell_type"], squeezed(released)), k)
    for index, cell in enumerate(cells):
        k = texts.get((cell["cell_type"], squeezed(cell)))
        if index not in place and k is not None and k not in place.values():
            place[index] = k


def by_definition(cells: list[dict], release: list[dict], place: dict[int, int]) -> None:
    for k, original in enumerate(release):
        wanted = needed(release, k)
        if k in place.values() or not wanted:
            continue
        for index, cell in enumerate(cells):
            free = index not in place and cell["cell_type"] == original["cell_type"]
            if free and wanted & defined(cell["source"]):
                place[index] = k


def by_position(cells: list[dict], release: list[dict], place: dict[int, int]) -> None:
    for k, original in enumerate(release):
        in_words = mark(original).get("grade") and mark(original).get("solution")
        if k in place.values() or not in_words:
            continue
        before = [index for index, other in place.items() if other < k]
        after = [index for index, other in place.items() if other > k]
        for index in range(max(before, default=-1) + 1, min(after, default=len(cells))):
            if index not in place and cells[index]["cell_type"] == "markdown":
                place[index] = k


def shown(cells: list[dict]) -> set[int]:
    """Return the released cells that only show what answers do: they use an answer at top level.

    These are not run in grading, which trains nothing: below them stays what the student's own run
    printed and drew.
    """
    names = {name for k in range(len(cells)) for name in needed(cells, k) if mark(cells[k])}
    found = set()
    for k, cell in enumerate(cells):
        marked = mark(cell)
        if cell["cell_type"] != "code" or not marked or marked["solution"] or marked["grade"]:
            continue
        if names & used(ast.parse(cell["source"])):
            found.add(k)
            names |= defined(cell["source"])
    return found


def used(tree: ast.AST) -> set[str]:
    """Return names that code uses outside of functions and classes."""
    inside = ast.FunctionDef | ast.ClassDef | ast.Lambda
    nodes = [node for node in ast.iter_child_nodes(tree) if not isinstance(node, inside)]
    found = {node.id for node in nodes if isinstance(node, ast.Name)}
    return found.union(*map(used, nodes))


def needed(release: list[dict], k: int) -> set[str]:
    """Return the name that an answer cell defines, which the check below it calls."""
    cell = release[k]
    if is_parameters(cell):
        return defined(cell["source"])
    check = f"check-{name_of(cell)}"
    below = next((other for other in release if name_of(other) == check), None)
    if not mark(cell).get("solution") or below is None or cell["cell_type"] != "code":
        return set()
    calls = [node for node in ast.walk(ast.parse(below["source"])) if isinstance(node, ast.Call)]
    return {calls[0].args[0].id} if calls and isinstance(calls[0].args[0], ast.Name) else set()


def defined(source: str) -> set[str]:
    """Return names that a cell defines at its top level, even if it does not compile."""
    found = re.findall(
        r"^(?:async +def|def|class) +(\w+)|^(\w+)(?: *:[^=\n]*)? *=(?!=)", source, re.M
    )
    return {definition or assignment for definition, assignment in found}


def pieces(own: list[dict], kind: str) -> list[str]:
    """Return the texts of cells with one mark: copies stay apart, and a split cell is joined."""
    texts = [cell["source"] for cell in own]
    if kind == "markdown":
        return ["\n\n".join(dict.fromkeys(texts))]
    whole = "\n".join(texts)
    return [whole] if not all(map(compiles, texts)) and compiles(whole) else texts


def compiles(source: str) -> bool:
    """Return whether a text is Python, apart from IPython's own lines."""
    try:
        ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.M))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def plain(cell: dict) -> dict:
    """Return a student's own cell, without a mark."""
    made = {"cell_type": cell["cell_type"], "metadata": {}, "source": cell["source"]}
    return made | ({"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {})
