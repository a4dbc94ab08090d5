"""The command `merge`: one report and page of a run whose cases were done in parts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..cases.files import write_json
from ..cases.lock import LOCK, FolderLock
from ..cases.part import named, read_part
from .html import check_html_cases, try_page
from .lines import last_lines
from .run_report import LINES, REPORT, CaseRecord, read_report, summary_of

logger = logging.getLogger(__name__)

SETTINGS = "settings_hash"


def merge(run_dir: str, html: bool = True, html_cases: int = 0) -> str:
    """Make one report.json and report.html of a run that was done in parts (--part), when all have ended.

    The reports of the parts are removed; a part that is run again later is merged into what is there.

    Args:
        run_dir: output folder of the parts.
        html: false: no report.html.
        html_cases: how many cases the page draws, the worst first; 0 for as many as it has room for.

    Returns:
        The report's path.

    Raises:
        ValueError: there are no parts, one is at work, or they were not run alike; or `html_cases` is less than 0.
    """
    folder, most = Path(run_dir), check_html_cases(html_cases)
    parts = parts_in(folder)
    if not parts:
        raise ValueError(f"{folder} holds no report of a part: give the output folder of runs with --part")
    with ExitStack() as locks:
        for name in (*(named(LOCK, part) for part in parts), LOCK):
            locks.enter_context(FolderLock(folder, name))
        reports = {part: read_report(folder, named(REPORT, part)) for part in parts}
        check_alike(folder, reports)
        before = merged_before(folder, next(iter(reports.values()))[SETTINGS])
        warn(folder, parts, whole=bool(before))
        report = merged([*before, *reports.values()])
        write_json(folder / REPORT, report)
        for name in (named(file, part) for part in parts for file in (REPORT, LINES)):
            (folder / name).unlink(missing_ok=True)
    for line in last_lines([CaseRecord(**case) for case in report["cases"]], report["summary"]):
        logger.info(line)
    if html:
        try_page(folder, most=most)
    return str(folder / REPORT)


def parts_in(folder: Path) -> list[str]:
    """Return the parts that a folder has reports of, such as ["1/8", "2/8"]."""
    pattern = named(REPORT, "1/1").replace("1", "*")
    texts = [file.name.split(".")[1].removeprefix("part-").replace("-of-", "/") for file in folder.glob(pattern)]
    return sorted(texts, key=lambda text: read_part(text)[::-1])


def check_alike(folder: Path, reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse parts of which one was run with other settings, another organ pack or another version than the first.

    So are parts of several numbers: nobody can tell then which of them are missing.

    Raises:
        ValueError: there is one.
    """
    first = next(iter(reports))
    for part, report in reports.items():
        if read_part(part)[1] != read_part(first)[1]:
            raise ValueError(
                f"{folder}: the parts {first} and {part} are shares of another number of parts: remove the reports of "
                f"those that you do not want, such as {named(REPORT, part)}, and run the missing ones"
            )
        if report[SETTINGS] != reports[first][SETTINGS]:
            raise ValueError(
                f"{folder}: the parts {first} and {part} were run with other options, organ packs or versions: run all "
                "parts again, alike"
            )


def merged_before(folder: Path, settings_hash: str) -> list[dict[str, Any]]:
    """Return the whole's report, where the folder has one and it was run like the parts."""
    if not (folder / REPORT).is_file():
        return []
    report = read_report(folder)
    return [report] if report.get(SETTINGS) == settings_hash else []


def warn(folder: Path, parts: Sequence[str], whole: bool) -> None:
    """Say which parts are missing, where the whole's report does not have their cases, and which were cut short."""
    count = read_part(parts[0])[1]
    missing = [f"{n}/{count}" for n in range(1, count + 1) if f"{n}/{count}" not in parts]
    if missing and not whole:
        logger.warning(f"{folder} has no report of the parts {', '.join(missing)}: run them, then merge again")
    cut = [part for part in parts if (folder / named(LINES, part)).exists()]
    if cut:
        logger.warning(f"cut short: the parts {', '.join(cut)}: run them again, then merge again")


def merged(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one report of several; of a case that several tell of, the last counts. `seconds` are added up."""
    told = {case["case"]: case for report in reports for case in report["cases"]}
    cases = [told[name] for name in sorted(told)]
    return {
        **{key: value for key, value in reports[-1].items() if key != "part"},
        "started": min(report["started"] for report in reports),
        "seconds": sum(report["seconds"] for report in reports),
        "peak_memory_mb": max(report["peak_memory_mb"] for report in reports),
        "summary": summary_of(cases),
        "cases": cases,
    }
