"""What the refinement did to a structure, in words and figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..geometry.runs import label_pieces
from ..geometry.surface import crop_box
from ..metrics.topology import count_components, count_holes

ENDS = ("refined_low", "refined_high")  # of the predicted interval
LARGE_CHANGE = 0.2  # share of the volume
POOR_DSC = 70.0  # %; a mask that is hardly as good, by the upper end of its interval, needs a look
RESTRICTED = re.compile(r"\bnc\b|non-?\s?commercial|research", re.IGNORECASE)


def topology_figures(initial: np.ndarray, refined: np.ndarray) -> dict[str, int]:
    """Return pieces and holes of two masks (X, Y, Z) bool, and how many initial pieces are wholly gone."""
    gone = 0
    if initial.any():
        box = crop_box(initial)
        pieces, count = label_pieces(initial[box])
        gone = count - len(np.unique(pieces[refined[box] & (pieces > 0)]))
    return {
        "pieces_initial": count_components(initial),
        "pieces_refined": count_components(refined),
        "pieces_removed": int(gone),
        "holes_initial": count_holes(initial),
        "holes_refined": count_holes(refined),
    }


def volume_figures(initial: np.ndarray, refined: np.ndarray, voxel_mm3: float) -> dict[str, float]:
    """Return volumes of two masks (X, Y, Z) bool in ml, and what was removed and added."""
    voxel_ml = voxel_mm3 / 1000.0
    return {
        "volume_initial_ml": np.count_nonzero(initial) * voxel_ml,
        "volume_refined_ml": np.count_nonzero(refined) * voxel_ml,
        "removed_ml": np.count_nonzero(initial & ~refined) * voxel_ml,
        "added_ml": np.count_nonzero(refined & ~initial) * voxel_ml,
    }


def predicted_figures(quality: Mapping[str, Any]) -> dict[str, float]:
    """Return what a report predicts of a structure, such as `predicted_dsc_refined` and `predicted_dsc_refined_low`."""
    found: dict[str, float] = {}
    for metric in ("predicted_dsc", "predicted_hd95_mm"):
        for stage, values in (quality.get(metric) or {}).items():
            names = (f"{metric}_{stage}", f"{metric}_{stage}_low", f"{metric}_{stage}_high")
            found |= dict(zip(names, map(float, values), strict=True))
    return found


def sentences(figures: Mapping[str, float], failure: str = "") -> list[str]:
    """Say what happened to a structure.

    Args:
        figures: those of `topology_figures`, `volume_figures` and `moved_figures`; of the report, those there are.
        failure: why the structure could not be refined, or "".
    """
    said = [f"Not refined: {failure}."] if failure else []
    before, after = figures["volume_initial_ml"], figures["volume_refined_ml"]
    if not before and not after:
        return [*said, "Not in this mask."]
    if not figures["removed_ml"] and not figures["added_ml"]:
        said.append("No voxel was changed.")
    else:
        change = f", {100 * (after / before - 1):+.1f} %" if before else ""
        moved = " and ".join(
            f"{ml(figures[f'{how}_ml'])} {how}" for how in ("removed", "added") if figures[f"{how}_ml"]
        )
        said.append(f"{moved}: {ml(before)} became {ml(after)}{change}.")
    if "steps_mm" in figures:
        steps = f"steps of {figures['steps_mm']:.1f} mm"
        said.append(f"The mask had {steps}, from a coarser grid; now the surface runs between them.")
    pieces, left, gone = (int(figures[f"pieces_{what}"]) for what in ("initial", "refined", "removed"))
    if pieces > 1 or left > 1:
        removed = f", {counted(gone, 'piece')} removed" if gone else ""
        joined = pieces - gone - left
        removed += f", {counted(joined, 'gap')} closed" if joined > 0 else ""
        said.append(
            f"{counted(pieces, 'piece')} became {left}{removed}." if pieces != left else f"{pieces} pieces, as before."
        )
    holes, remaining = int(figures["holes_initial"]), int(figures["holes_refined"])
    if holes or remaining:
        filled = f"{holes - remaining} of {counted(holes, 'hole')} filled."
        inside = f"{counted(remaining, 'hole')} inside, {'as before' if holes == remaining else f'before {holes}'}."
        said.append(filled if holes > remaining else inside)
    if "predicted_dsc_refined" in figures:
        guess, low, high, before = (figures[f"predicted_dsc_{what}"] for what in ("refined", *ENDS, "initial"))
        said.append(f"Predicted DSC: {guess:.0f} % ({low:.0f} to {high:.0f}), before {before:.0f} %.")
    if "moved_mean_mm" in figures and (figures["removed_ml"] or figures["added_ml"]):
        said.append(
            f"The surface moved {figures['moved_mean_mm']:.2f} mm on average, {figures['moved_max_mm']:.1f} mm at most."
        )
    if "uncertainty_median_mm" in figures:
        said.append(
            f"Uncertainty, one standard deviation: {figures['uncertainty_median_mm']:.2f} mm in the median, up to "
            f"{figures['uncertainty_p90_mm']:.1f} mm on nine tenths of the surface."
        )
    return said


def region_totals(structures: list[dict[str, Any]]) -> dict[str, float]:
    """Return number and volume (ml) of the regions that the gate accepted and refused in a report's structures."""
    totals: dict[str, float] = {"accepted": 0, "refused": 0, "accepted_ml": 0.0, "refused_ml": 0.0}
    for structure in structures:
        for region in structure.get("quality", {}).get("regions", []):
            what = "accepted" if region.get("accepted") else "refused"
            totals[what] += 1
            totals[f"{what}_ml"] += float(region.get("volume_mm3", 0.0)) / 1000.0
    return totals


def flags(status: str, warnings: list[str], structures: list[dict[str, Any]]) -> list[list[str]]:
    """Return a case's quality flags as [kind, text]; kind is "bad", "warn" or "note".

    Args:
        status: of the case, as in the report.
        warnings: of the case.
        structures: dictionaries with `name`, `failure`, `figures` and, where the fit cannot be right, `doubtful`,
            or where the prior does not know such a shape, `outside_prior`.
    """
    found = [["bad", "failed"]] if status == "failed" else [["warn", "mask kept as it was"]] if status == "kept" else []
    for structure in structures:
        figures = structure["figures"]
        before, after = figures.get("volume_initial_ml", 0.0), figures.get("volume_refined_ml", 0.0)
        if structure.get("doubtful"):
            found.append(["bad", f"{structure['name']}: fit cannot be right"])
        elif structure.get("outside_prior"):
            found.append(["bad", f"{structure['name']}: unknown shape"])
        elif structure["failure"]:
            found.append(["warn", f"{structure['name']} kept as it was"])
        elif before and abs(after / before - 1.0) > LARGE_CHANGE:
            found.append(["note", f"{structure['name']} {100 * (after / before - 1):+.0f} %"])
    if warnings and not any(kind == "warn" for kind, _ in found):
        found.append(["warn", counted(len(warnings), "warning")])
    for structure in structures:
        if structure["figures"].get("predicted_dsc_refined_high", 100.0) < POOR_DSC:
            found.append(["warn", f"{structure['name']}: predicted DSC below {POOR_DSC:.0f} %"])
    return found


def provenance_lines(provenance: Mapping[str, Any], restrict: bool = True) -> list[list[str]]:
    """Return an organ pack's provenance as [key, text] lines; licences that restrict the use are said to do so."""
    lines = []
    for key, value in provenance.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                lines += provenance_lines(item, restrict=False)
            else:
                lines.append([str(key), str(item)])
    if restrict and any(key.lower().startswith("licen") and RESTRICTED.search(text) for key, text in lines):
        lines.append(["use", "The source restricts the use of its data: research, not commercial."])
    return lines


def ml(volume_ml: float) -> str:
    """Return a volume as text, with three significant digits below 100 ml; what is there is never said to be 0."""
    if 0 < volume_ml < 0.005:
        return "under 0.01 ml"
    if volume_ml >= 100:
        return f"{volume_ml:.0f} ml"
    return f"{volume_ml:.1f} ml" if volume_ml >= 10 else f"{volume_ml:.2f} ml"


def counted(number: int, noun: str) -> str:
    """Return "1 hole", "2 holes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
