"""The `summary.csv` of an evaluation, for pages that show a part of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from ..metrics.statistics import ALL

Summary = Mapping[tuple[str, str], Mapping[str, float]]
"""(method, metric) → a line of the summary, over all structures."""


def read_summary(file: Path) -> Summary:
    """Read a `summary.csv`: of several structures, the lines of all together."""
    with open(file, newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    names = {row["structure"] for row in rows}
    structure = ALL if ALL in names else names.pop()
    texts = ("structure", "method", "metric")
    return {
        (row["method"], row["metric"]): {k: float(v) if v else math.nan for k, v in row.items() if k not in texts}
        for row in rows
        if row["structure"] == structure
    }
