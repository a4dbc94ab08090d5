"""README and docs against what is there: links, commands, options, addresses, organs and figures."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from scripts.cli.help import COMMON
from scripts.cli.main import FUNCTIONS, JOBS, describe
from scripts.organ.pack import OrganPack, known_organs

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "models").glob("*.md"))]
TERMS = ["DSC", "NSD", "HD95", "ASSD", "PICCT", "TIM", "prior", "joint model", "evidence", "preset"]

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:python -m scripts|shape-refine) ([a-z][\w-]*)")
OPTION = re.compile(r"(?<!\S)--([a-z]\w*)")
CONFIG = re.compile(r"configs/\w+\.(?:yaml|json)")
PATH = re.compile(r"(?:scripts|tests|configs|docs|models)/[\w./-]*[\w-]/?")
ADDRESS = re.compile(r"\bscripts(?:\.\w+)+")
IMPORT = re.compile(r"from ((?:scripts|tests)[\w.]*) import (\w+)")
OTHERS = {"conf", "ml"}  # options of MONAI Label and TotalSegmentator
BEFORE_AFTER = re.compile(r"([\d.]+) → ([\d.]+)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page: Path) -> list[str]:
    """The pieces of code of a page: the lines of its blocks, those that a backslash breaks as one, and its spans."""
    text = page.read_text()
    lines = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()[1:-1]]
    return lines + [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def anchors(page: Path) -> set[str]:
    """What a link may point to in a page: its headings, as GitHub names them, and its `<a id>`."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'<a id="([^"]+)">', text))


def linked(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, each with its anchor or ""."""
    found = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if not link.startswith(("http:", "https:")):
            file, _, anchor = link.partition("#")
            found.append(((page.parent / file).resolve() if file else page, anchor))
    return found


def config_keys(files: list[str]) -> set[str]:
    """The options of a job: the top-level keys of its configs, and MONAI's own."""
    keys = {key.lstrip("+").split("#")[0] for file in files for key in yaml.safe_load((ROOT / file).read_text())}
    return keys | {"config_file"}


def unknown_options(line: str) -> set[str]:
    """The options of a command line of ours that the command does not have; none for other programs' lines."""
    given = set(OPTION.findall(line))
    if command := COMMAND.search(line):
        known = describe(command[1])
        return set() if known.others else given - {*known.options, *COMMON}  # others: evaluate's --METHOD FOLDER
    configs = CONFIG.findall(line)
    if "monai.bundle run" in line and configs and all((ROOT / file).is_file() for file in configs):
        return given - config_keys(configs)
    return set()


@pages
def test_links_and_images_exist(page):
    broken = [f"{file}#{anchor}" for file, anchor in linked(page) if not file.exists()]
    broken += [
        f"{file}#{anchor}"
        for file, anchor in linked(page)
        if anchor and file.suffix == ".md" and file.is_file() and anchor not in anchors(file)
    ]
    assert broken == []


@pages
def test_commands_exist(page):
    named = {name for piece in code(page) for name in COMMAND.findall(piece)}
    assert named - {*JOBS, *FUNCTIONS} == set()


@pages
def test_commands_have_the_options_that_are_named(page):
    wrong = {line: unknown_options(line) for line in code(page)}
    assert {line: options for line, options in wrong.items() if options} == {}


@pages
def test_options_named_alone_are_some_command_s(page):
    configs = [f"configs/{file.name}" for file in (ROOT / "configs").glob("*.yaml") if file.name != "presets.yaml"]
    known = config_keys(configs) | {*COMMON} | OTHERS
    known |= {option for name in FUNCTIONS for option in describe(name).options}
    pieces = [piece for piece in code(page) if piece.startswith(("--", "…"))]
    assert {name for piece in pieces for name in OPTION.findall(piece)} - known == set()


@pages
def test_paths_addresses_and_imports_exist(page):
    pieces = code(page)
    paths = {piece for piece in pieces if PATH.fullmatch(piece) and "NAME" not in piece}
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    for address in {address for piece in pieces for address in ADDRESS.findall(piece)}:
        module, _, name = address.rpartition(".")
        place = ROOT / Path(*address.split("."))
        if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
            assert hasattr(importlib.import_module(module), name), address
    for module, name in {found for piece in pieces for found in IMPORT.findall(piece)}:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 130


def test_readme_leads_to_every_page():
    seen: set[Path] = set()
    waiting = [README]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            waiting += [file for file, _ in linked(page) if file.suffix == ".md" and file.is_file()]
    assert {page.name for page in PAGES if page not in seen} == set()


def test_glossary_has_the_ten_terms_and_readme_leads_to_it():
    glossary = ROOT / "docs" / "glossary.md"
    rows = re.findall(r"^\| (?:<a [^>]*></a>)?\*\*(.+?)\*\* \| (.+) \|$", glossary.read_text(), re.MULTILINE)
    assert [term for term in TERMS if term not in dict(rows)] == []
    assert glossary in [file for file, _ in linked(README)]


@pytest.mark.parametrize("organ", known_organs())
def test_readme_names_an_organ_s_label_values(organ):
    row = re.search(rf"^\| `{organ}` \| ([^|]+) \|", README.read_text(), re.MULTILINE)
    assert row is not None
    assert sorted(int(value) for value in re.findall(r"\((\d+)\)", row[1])) == sorted(OrganPack.load(organ).labels)


def page_means(page: Path) -> dict[tuple[str, str], list[float]]:
    """The means of a page's first table of each structure: (structure, method) → DSC, NSD, HD95, ASSD."""
    means = {}
    for structure, table in re.findall(r"^## (\w+)\n\n(\| method \| n \|.*?)\n\n", page.read_text(), re.M | re.S):
        for row in table.splitlines()[2:]:
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            means[structure, cells[0]] = [float(cell.split()[0]) for cell in cells[2:6]]
    return means


@pytest.mark.parametrize("network", ["unet", "baseline"])
@pytest.mark.parametrize(
    ("page", "columns"), [(README, [0, 2, 3]), (RESULTS / "README.md", [0, 1, 2, 3])], ids=["README", "results"]
)
def test_figures_are_those_of_the_result_pages(page, columns, network):
    means = page_means(RESULTS / f"thorax_{network}.md")
    rows = re.findall(rf"^\| {network}, (\w+) \| (.+) \|$", page.read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {name for name, _ in means if name != "all"}
    for name, cells in rows:
        for column, (before, after) in zip(columns, BEFORE_AFTER.findall(cells), strict=True):
            decimals = len(before.partition(".")[2])
            expected = means[name, "initial"][column], means[name, "default"][column]
            assert (float(before), float(after)) == pytest.approx(expected, abs=0.51 * 10**-decimals)
