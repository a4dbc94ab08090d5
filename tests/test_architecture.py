"""Which room of scripts/ may import which: the table in docs/design.md against the imports.

A room is a folder with modules, or a module beside the folders. An arrow leads from a room to one that it imports.
`python -m tests.test_architecture` prints rooms, floors and arrows.
"""

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN_PATH = ("run", "refine", "evidence", "prior", "organ", "geometry")
BESIDE = ("cases", "report", "metrics", "unet", "quality", "gpu_memory")
OFF_THE_PATH = ("training", "shapes", "simulation", "evaluation", "validation", "data")
BY_NAME = re.compile(r"([\w.]+):\w+")
ROW = re.compile(r"\| `([\w.]+)` \| [^|]+ \| ([^|]*) \|")

Arrows = dict[str, dict[str, list[str]]]  # room → rooms that it imports → the imports, as "module imports module"


def module_names(scripts: Path) -> dict[tuple[str, ...], Path]:
    """The modules of a package: the parts of their names, without the package's own → their files."""
    names = {}
    for file in sorted(scripts.rglob("*.py")):
        parts = file.relative_to(scripts).with_suffix("").parts
        names[parts[:-1] if parts[-1] == "__init__" else parts] = file
    return names


def imported(module: tuple[str, ...], file: Path, known: Mapping[tuple[str, ...], Path]) -> set[tuple[str, ...]]:
    """The modules of the same package that a module imports, or names as `module:function` to import it later."""
    package = module if file.name == "__init__.py" else module[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            found |= {(*base, one.name) if (*base, one.name) in known else base for one in node.names}
        elif isinstance(node, ast.Constant) and (named := BY_NAME.fullmatch(str(node.value))):
            found.add(tuple(named[1].split(".")))
    return found & set(known)


def room_of(module: tuple[str, ...]) -> str:
    """The room of a module: its folder, or itself where it stands beside the folders."""
    return ".".join(module[:-1] or module)


def measure(scripts: Path) -> Arrows:
    """The arrows between the rooms of a package."""
    known = module_names(scripts)
    arrows: Arrows = {room_of(module): {} for module, file in known.items() if file.name != "__init__.py"}
    for module, file in known.items():
        for other in imported(module, file, known):
            if module and room_of(other) != room_of(module):
                text = f"{'.'.join(module)} imports {'.'.join(other)}"
                arrows[room_of(module)].setdefault(room_of(other), []).append(text)
    return arrows


def table(page: str) -> dict[str, set[str]]:
    """The rooms of the table, in its order → those that they may import."""
    return {room: set(re.findall(r"`([\w.]+)`", allowed)) for room, allowed in ROW.findall(page)}


def cycles(arrows: Mapping[str, Mapping[str, object]]) -> set[str]:
    """The rooms that import themselves by way of others."""
    return {room for room in arrows if room in reached(arrows, arrows[room])}


def reached(arrows: Mapping[str, Mapping[str, object]], rooms: Mapping[str, object]) -> set[str]:
    """Rooms, and those that they import, and so on."""
    found: set[str] = set()
    waiting = list(rooms)
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting += arrows[room]
    return found


def floors(arrows: Mapping[str, Mapping[str, object]]) -> dict[str, int]:
    """Floor of each room: 1 where it imports none, else one above the highest that it imports."""

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in arrows[room]), default=0)

    return {room: floor(room) for room in arrows}


def upwards(arrows: Arrows, order: list[str]) -> list[str]:
    """The imports of rooms that stand in no earlier row of the table, which lists the rooms from the ground up."""
    return [
        text
        for room, others in arrows.items()
        for other, texts in others.items()
        if order.index(other) >= order.index(room)
        for text in texts
    ]


def describe(arrows: Arrows, order: list[str]) -> str:
    """The figures of a graph, and a line a room."""
    level = floors(arrows)
    count, up = sum(map(len, arrows.values())), len(upwards(arrows, order))
    lines = [f"{len(arrows)} rooms on {max(level.values())} floors, {count} arrows, {up} imports upwards"]
    lines += [
        f"{level[room]:3d}  {room}: {', '.join(sorted(arrows[room])) or '-'}"
        for room in sorted(arrows, key=lambda room: (level[room], room))
    ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def arrows() -> Arrows:
    return measure(ROOT / "scripts")


@pytest.fixture(scope="module")
def allowed() -> dict[str, set[str]]:
    return table((ROOT / "docs" / "design.md").read_text())


def test_every_room_has_a_row(arrows, allowed):
    assert set(allowed) == set(arrows)


def test_every_import_is_one_that_the_table_allows(arrows, allowed):
    wrong = [
        text for room, others in arrows.items() for other in others.keys() - allowed[room] for text in others[other]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_arrow_of_the_table_is_used(arrows, allowed):
    unused = {room: others - arrows[room].keys() for room, others in allowed.items() if others - arrows[room].keys()}
    assert not unused


def test_rooms_stand_in_no_circle(arrows):
    assert not cycles(arrows)


def test_no_room_imports_one_above_it(arrows, allowed):
    assert not upwards(arrows, list(allowed))


def test_the_run_path_is_one_stair(arrows):
    for above, below in zip(RUN_PATH, RUN_PATH[1:], strict=False):
        assert below in reached(arrows, arrows[above]) and above not in reached(arrows, arrows[below])


def test_nothing_on_the_run_path_needs_what_lies_off_it(arrows):
    needed = reached(arrows, {"run": None})
    assert needed <= {*RUN_PATH, *BESIDE}
    for room in (*RUN_PATH, *BESIDE):
        assert not [other for other in arrows[room] if other.split(".")[0] in OFF_THE_PATH]


def test_modules_are_imported_at_the_top(arrows):
    """But by the command line, which answers before it imports a command's module (`importlib`)."""
    for module, file in module_names(ROOT / "scripts").items():
        tree = ast.parse(file.read_text())
        inside = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)]
        assert not [n for n in inside if isinstance(n, (ast.Import, ast.ImportFrom))], file
        assert "import_module" not in file.read_text() or room_of(module) == "cli", file


def test_geometry_imports_nothing_of_ours(arrows):
    assert not arrows["geometry"]


def test_figures_can_be_seen(arrows, allowed):
    print("\n" + describe(arrows, list(allowed)))


def test_imports_of_every_form_are_found(tmp_path):
    """Modules, names, whole folders, folders in folders, several dots; not what is imported from elsewhere."""
    sources = {
        "__init__.py": "",
        "__main__.py": "from .main import go",
        "main.py": "from . import low\nfrom .high import tower",
        "low/__init__.py": "",
        "low/base.py": "import json\nfrom pathlib import Path",
        "low/own.py": "from .base import one\nfrom . import base",
        "high/__init__.py": "from ..low import base",
        "high/tower/__init__.py": "",
        "high/tower/top.py": "from ...low.base import one\nfrom ..wing import part",
        "high/wing.py": "def late():\n    from ..low import own",
        "door.py": "COMMANDS = {'up': 'high.wing:late', 'note': 'none.such:at all', 'odd': 'a:b'}",
        "ring.py": "from . import bell",
        "bell.py": "from .ring import it",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = measure(tmp_path)
    assert {room: set(others) for room, others in found.items()} == {
        "__main__": {"main"},
        "main": {"low", "high"},
        "low": set(),
        "high": {"low"},
        "high.tower": {"low", "high"},
        "ring": {"bell"},
        "bell": {"ring"},
        "door": {"high"},
    }
    assert found["high.tower"]["low"] == ["high.tower.top imports low.base"]
    assert cycles(found) == {"ring", "bell"}
    order = ["low", "high", "high.tower", "main", "__main__", "ring", "bell", "door"]
    assert upwards(found, order) == ["ring imports bell"]
    assert floors({"low": {}, "high": {"low": []}, "main": {"low": [], "high": []}}) == {"low": 1, "high": 2, "main": 3}


def test_rows_are_read():
    page = "| room | what | imports |\n|---|---|---|\n| `a` | the first | nothing |\n| `b.c` | `x` | `a`, `d` |\n"
    assert table(page) == {"a": set(), "b.c": {"a", "d"}}


if __name__ == "__main__":
    print(describe(measure(ROOT / "scripts"), list(table((ROOT / "docs" / "design.md").read_text()))))
