"""`python -m scripts rank`: the structures of a run, those first that most need a look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cases.files import write_csv
from .run_report import read_report

COLUMNS = ("case", "structure", "status", "predicted DSC %", "interval", "before", "HD95 mm", "why")
SHOWN = 30


def rank(run_dir: str, shown: int = SHOWN) -> str:
    """List the structures of a run by the DSC that is predicted of their refined masks, the worst first.

    What could not be fitted, or has a shape that the prior does not know, comes before all others: without an image
    nothing reliable can be predicted of it.

    Args:
        run_dir: output folder of the job `inference` or `refine`; rank.csv is written into it.
        shown: how many lines are printed; the file has all.

    Returns:
        The table, and the file's path.

    Raises:
        ValueError: the folder holds no run, or one without predictions.
    """
    try:
        report = read_report(run_dir)
    except (OSError, ValueError) as error:
        raise ValueError(f"{run_dir} holds no report of a run ({error}): give the output folder of a job") from error
    rows = sorted((row_of(case["case"], part) for case in report["cases"] for part in case["structures"]), key=_order)
    if not any("predicted_dsc" in row for row in rows):
        raise ValueError(f"{run_dir}: nothing was predicted in this run; refine the masks anew with this version")
    file = Path(run_dir) / "rank.csv"
    write_csv(file, rows)
    table = [COLUMNS, *(_cells(row) for row in rows[:shown])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)).rstrip() for line in table]
    rest = [f"and {len(rows) - shown} more"] if len(rows) > shown else []
    return "\n".join([*lines, *rest, str(file)])


def row_of(case: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a structure's line of rank.csv.

    Args:
        case: the case's name.
        part: the structure in report.json.
    """
    quality = part["quality"]
    row: dict[str, Any] = {"case": case, "structure": part["name"], "status": part["status"]}
    row["outside_prior"] = bool(quality.get("outside_prior", bool(part["failure"])))
    for metric in ("dsc", "hd95_mm"):
        for stage, values in quality.get(f"predicted_{metric}", {}).items():
            if stage == "refined":
                row |= dict(zip((f"predicted_{metric}", f"{metric}_low", f"{metric}_high"), values, strict=True))
            else:
                row[f"predicted_{metric}_{stage}"] = values[0]
    row["predicted_from"] = quality.get("predicted_from", "")
    row["why"] = part["failure"] or quality.get("outside_prior_reason", "")
    return row


def _order(row: Mapping[str, Any]) -> tuple[bool, float]:
    return not row["outside_prior"], row.get("predicted_dsc", -math.inf)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    known = "predicted_dsc" in row
    return (
        row["case"],
        row["structure"],
        row["status"],
        f"{row['predicted_dsc']:.1f}" if known else "–",
        f"{row['dsc_low']:.1f} to {row['dsc_high']:.1f}" if known else "–",
        f"{row['predicted_dsc_initial']:.1f}" if known else "–",
        f"{row['predicted_hd95_mm']:.1f}" if known else "–",
        row["why"],
    )
