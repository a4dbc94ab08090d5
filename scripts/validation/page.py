"""The page of a validation, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.postprocess import LARGEST
from ..evaluation.tables import DECIMALS, FLOOR_DIGITS, SHAPE_DECIMALS, markdown_table
from ..metrics.statistics import HARM_DSC
from ..organ.pack import OrganPack
from ..report.words import counted

RELATIVE = ("hd95_mm", "assd_mm")  # metrics whose change is given in per cent too


def validation_page(
    pack: OrganPack,
    command: str,
    cases: Sequence[str],
    seen: Sequence[str],
    ceiling: Sequence[Mapping[str, Any]],
    failures: Sequence[str],
    changes: Sequence[Mapping[str, str]],
    unrefined: Sequence[str],
    with_images: bool = False,
) -> str:
    """Return the page as Markdown.

    Args:
        pack: the organ pack.
        command: that made the page.
        cases: names of the cases.
        seen: those of them that the pack's training split names.
        ceiling: rows of `statistics.summarise`, methods `CODES` and `WEIGHTS`.
        failures: a line on each structure whose ceiling could not be fitted.
        changes: rows of the kinds' summary.csv, with the kind.
        unrefined: a line on each mask that was kept as it was.
        with_images: whether images were given with the masks.
    """
    heads = ("DSC %", f"NSD {pack.nsd_tolerance_mm:g} mm %", "HD95 mm", "ASSD mm")
    parts = [f"# Validation of the organ pack {pack.name}", f"```bash\n{command}\n```"]
    parts.append(f"{counted(len(cases), 'case')}: {', '.join(cases)}. Means over cases, in mm on the original grid.")
    if seen:
        parts.append(f"**Not a validation:** the prior was trained on {', '.join(seen)}.")
    parts.append("## Ceiling: the priors fitted to the true surfaces")
    parts.append(
        "The mask is redrawn from the fit alone, with the refinement's numbers of points and steps: first the codes "
        "and the pose are fitted, then also the weights of the deformation. What the prior cannot describe is lost "
        "here; the refinement's fusion keeps it where the mask is right."
    )
    cells = {(line["structure"], line["method"], line["metric"]): line for line in ceiling}
    body = []
    for structure, method in dict.fromkeys((line["structure"], line["method"]) for line in ceiling):
        lines = [cells[structure, method, metric] for metric in DECIMALS]
        means = [f"{line['mean']:.{DECIMALS[line['metric']]}f}" for line in lines]
        cd = cells[structure, method, "cd"]
        means += [f"{cd['mean']:.{SHAPE_DECIMALS['cd']}f}", f"{cd['floor']:.{FLOOR_DIGITS}f}"]
        body.append([structure, method, str(lines[0]["n"]), *means])
    parts.append(markdown_table(("structure", "fitted", "n", *heads, "CD ×1000", "floor"), body))
    if failures:
        parts.append("Not fitted:\n\n" + "\n".join(f"- {line}" for line in failures))
    parts.append("## Refinement of simulated errors")
    parts.append(
        f"`configs/refine.yaml`, default preset, {'with the images' if with_images else 'from the masks alone'}. Each "
        "cell: before → after the refinement; for distances also the change of the mean. Then the DSC gained, the "
        f"share of cases and structures that lose more than {HARM_DSC:g} points of it, and what the {LARGEST} gains. "
        "Single cases: `scores/<kind>/table.md`; every region judged, with the reason: `refined/<kind>/report.json`."
    )
    table = {(line["structure"], line["kind"], line["method"], line["metric"]): line for line in changes}
    for structure in dict.fromkeys(line["structure"] for line in changes):
        body = [_change_row(table, structure, kind) for kind in dict.fromkeys(line["kind"] for line in changes)]
        parts.append(f"### {structure}")
        parts.append(markdown_table(("error", "n", *heads, "DSC gained", f"lost > {HARM_DSC:g} DSC, %", LARGEST), body))
    if unrefined:
        parts.append("Kept as they were, or in part:\n\n" + "\n".join(f"- {line}" for line in unrefined))
    return "\n\n".join(parts) + "\n"


def _change_row(table: Mapping[tuple[str, str, str, str], Mapping[str, str]], structure: str, kind: str) -> list[str]:
    cells = []
    for metric, digits in DECIMALS.items():
        before, after = (table[structure, kind, method, metric] for method in ("initial", "refined"))
        text = f"{_number(before['mean'], f'.{digits}f')} → {_number(after['mean'], f'.{digits}f')}"
        if metric in RELATIVE and float(before["mean"] or 0) > 0:
            text += f" ({_number(after['relative_change'], '+.0f')} %)"
        cells.append(text)
    dsc = table[structure, kind, "refined", "dsc"]
    difference, low, high = (_number(dsc[f"difference{end}"], "+.2f") for end in ("", "_low", "_high"))
    harmed = _number(dsc["harmed_percent"], ".1f")
    simple = _number(table[structure, kind, LARGEST, "dsc"]["difference"], "+.2f")
    return [kind, dsc["n"], *cells, f"{difference} [{low}, {high}]", harmed, simple]


def _number(text: str, style: str) -> str:
    """Format a number of a CSV file, where NaN is blank."""
    return format(float(text), style) if text else "–"
