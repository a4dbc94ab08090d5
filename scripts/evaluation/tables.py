"""The tables of an evaluation: Markdown, the console's, and LaTeX for a paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.statistics import HARM_DSC

DECIMALS = {"dsc": 1, "nsd": 1, "hd95_mm": 2, "assd_mm": 2}
SHAPE_DECIMALS = {"cd": 3, "emd": 3, "point_to_surface_mm": 2, "volume_difference_percent": 1}
OVERLAP_DECIMALS = {"precision": 1, "recall": 1, "volume_bias_percent": 1}
OVERLAP_HEADS = ("precision %", "recall %", "volume bias %")
LATEX_HEADS = (r"DSC \%", r"NSD \%", "HD95 mm", "ASSD mm")
FLOOR_DIGITS = 3
SHAPE_HEADS = ("CD ×1000", "floor", "EMD", "floor", "point to surface mm", "volume difference %")


def markdown_report(
    title: str,
    notes: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    summary: Sequence[Mapping[str, Any]],
    nsd_tolerance_mm: float,
    reference: str,
) -> str:
    """Return the evaluation as Markdown.

    Args:
        title: heading.
        notes: paragraphs under it.
        rows: scores, one a case, structure and method.
        summary: rows of `statistics.summarise`.
        nsd_tolerance_mm: tolerance that stands in the heading of NSD.
        reference: the method that the others are compared with.

    Returns:
        For every structure the methods' mean ± standard deviation (median), the paired differences and, where the rows
        have them, the shape metrics with their noise floors; then all cases.
    """
    heads = ("DSC %", f"NSD {nsd_tolerance_mm:g} mm %", "HD95 mm", "ASSD mm")
    parts = [f"# {title}", *notes]
    cells = {(line["structure"], line["method"], line["metric"]): line for line in summary}
    structures = dict.fromkeys(line["structure"] for line in summary)
    methods = list(dict.fromkeys(line["method"] for line in summary))
    for structure in structures:
        parts.append(f"## {structure}")
        body = []
        for method in methods:
            lines = [cells[structure, method, metric] for metric in DECIMALS]
            means = [_mean_sd(line, DECIMALS[line["metric"]]) for line in lines]
            body.append([method, str(lines[0]["n"]), *means, str(lines[0]["failed"])])
        parts.append(markdown_table(("method", "n", *heads, "failed"), body))
        if (structure, methods[0], "precision") in cells:
            body = []
            for method in methods:
                lines = [cells[structure, method, metric] for metric in OVERLAP_DECIMALS]
                body.append([method, *(_mean_sd(line, OVERLAP_DECIMALS[line["metric"]]) for line in lines)])
            parts.append(markdown_table(("method", *OVERLAP_HEADS), body))
        body = []
        for method in methods:
            if method == reference or (structure, reference, "dsc") not in cells:
                continue
            lines = [cells[structure, method, metric] for metric in DECIMALS]
            changes = [_difference(line, DECIMALS[line["metric"]]) for line in lines]
            relative = [_interval(line, "relative_change", 0) for line in lines[2:]]
            body.append([method, *changes, *relative, _number(lines[0]["harmed_percent"], 1)])
        if body:
            harm = f"lost > {HARM_DSC:g} DSC, % of case-structures"
            columns = (f"minus {reference}", *heads, "HD95, change in %", "ASSD, change in %", harm)
            parts.append(markdown_table(columns, body))
        if (structure, methods[0], "cd") in cells:
            body = [_shape_row(method, {m: cells[structure, method, m] for m in SHAPE_DECIMALS}) for method in methods]
            parts.append(markdown_table(("method", *SHAPE_HEADS), body))
    parts.append("## All cases")
    body = [
        [row["case"], row["structure"], row["method"]]
        + [_number(row[metric], digits) for metric, digits in DECIMALS.items()]
        + [str(row["components"]), str(row["holes"]), _number(row["volume_ml"], 1), _number(row["truth_volume_ml"], 1)]
        + ["failed" if row["failed"] else ""]
        for row in rows
    ]
    figures = ("components", "holes", "volume ml", "true volume ml", "")
    parts.append(markdown_table(("case", "structure", "method", *heads, *figures), body))
    return "\n\n".join(parts) + "\n"


def console_report(notes: Sequence[str], summary: Sequence[Mapping[str, Any]], nsd_tolerance_mm: float) -> str:
    """Return the means of every structure and method as text in columns.

    Args:
        notes: what is said before them, such as how many cases there are.
        summary: rows of `statistics.summarise`.
        nsd_tolerance_mm: tolerance that stands in the heading of NSD.
    """
    heads = ("structure", "method", "n", "DSC %", f"NSD {nsd_tolerance_mm:g} mm %", "HD95 mm", "ASSD mm")
    table: list[tuple[str, ...]] = [(*heads, *OVERLAP_HEADS, "failed")]
    digits = {**DECIMALS, **OVERLAP_DECIMALS}
    for (structure, method), scores in _by_method(summary).items():
        means = [_number(scores[metric]["mean"], digits[metric]) for metric in digits]
        table.append((structure, method, str(scores["dsc"]["n"]), *means, str(scores["dsc"]["failed"])))
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    lines = []
    for row in table:
        padded = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        padded += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(padded))
    return "\n".join([*notes, "", *lines])


def latex_report(summary: Sequence[Mapping[str, Any]], nsd_tolerance_mm: float) -> str:
    """Return the main table in LaTeX (package booktabs): mean ± standard deviation of every structure and method."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{tabular}{llrrrrr}", r"\toprule"]
    lines.append(f"structure & method & n & {' & '.join(LATEX_HEADS)} \\\\")
    lines[-1] = lines[-1].replace("NSD ", f"NSD {nsd_tolerance_mm:g} mm ")
    before = None
    for (structure, method), scores in _by_method(summary).items():
        if structure != before:
            lines.append(r"\midrule")
        cells = [_latex(structure if structure != before else ""), _latex(method), str(scores["dsc"]["n"])]
        for metric, digits in DECIMALS.items():
            mean, sd = (_number(scores[metric][key], digits) for key in ("mean", "sd"))
            cells.append(f"${mean} \\pm {sd}$" if sd != "–" else mean.replace("–", "--"))
        lines.append(" & ".join(cells) + r" \\")
        before = structure
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _by_method(summary: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
    """Return (structure, method) → metric → row."""
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for line in summary:
        found.setdefault((line["structure"], line["method"]), {})[line["metric"]] = line
    return found


def _latex(text: str) -> str:
    escaped = text.replace("\\", r"\textbackslash ")
    for mark in "&%$#_{}":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped


def markdown_table(columns: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float, digits: int, sign: str = "") -> str:
    if math.isnan(value):
        return "–"
    text = f"{value:{sign}.{digits}f}"
    return text if float(text) else text.replace("-", "")  # no minus zero


def _mean_sd(line: Mapping[str, Any], digits: int) -> str:
    mean, sd, median = (_number(line[key], digits) for key in ("mean", "sd", "median"))
    return f"{mean} ± {sd} ({median})"


def _shape_row(method: str, lines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the row of a method in the table of shape metrics."""
    row = [method]
    for metric, digits in SHAPE_DECIMALS.items():
        row.append(_mean_sd(lines[metric], digits))
        if "floor" in lines[metric]:
            row.append(_number(lines[metric]["floor"], FLOOR_DIGITS))
    return row


def _difference(line: Mapping[str, Any], digits: int) -> str:
    said = "" if math.isnan(line["p"]) else f", p {_p_value(line['p'])}"
    return f"{_interval(line, 'difference', digits)}{said}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _interval(line: Mapping[str, Any], name: str, digits: int) -> str:
    low, high = (_number(line[f"{name}_{end}"], digits, "+") for end in ("low", "high"))
    bounds = "" if math.isnan(line[f"{name}_low"]) else f" [{low}, {high}]"
    return f"{_number(line[name], digits, '+')}{bounds}"
