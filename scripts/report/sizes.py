"""Whether most of a run's masks of a structure are larger, or smaller, than the organ usually is.

One mask of one and a half standard deviations says nothing, since some people have large organs. Many such masks say
that the network, or the way of drawing, differs from those of the prior's training shapes. Medians are compared, for
one mask may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ..prior.volume import SITE_DEVIATIONS

LEAST_MASKS = 5
LEAST_MM, MOST_MM = 0.05, 19.9  # depths to name: less is nothing, and no deeper one is measured
SURE = 1.96 * 1.25  # standard errors of a mean that make 95 %; a median's is a quarter larger
CUT_SHARE = 0.01  # of a surface at the image's end: what is cut is smaller by that, and no reason to be larger


def unusual_sizes(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the structures whose initial masks have an unusual size, in the order in which they come.

    Args:
        cases: of a report.

    Returns:
        Of each `structure`, how many `masks` were counted, the median of their volumes in standard `deviations` of
        those of the training organs, see `prior.volume`, and the depth `inward_mm` by which all must be taken inward
        for half of them to be of usual size, negative for outward. Masks that look like no such organ, or that the run
        has taken inward or outward already, do not count; those that the image cuts count among the larger ones only.
    """
    known: dict[str, list[tuple[float, float, bool]]] = {}
    for part in (part for case in cases for part in case.get("structures", [])):
        quality = part.get("quality") or {}
        figures = (quality.get("agreement") or {}).get("initial") or {}
        deviations = figures.get("volume_deviations")
        if deviations is not None and not quality["doubtful"] and not quality.get("inward_mm"):
            is_cut = figures["at_border"] > CUT_SHARE
            known.setdefault(part["name"], []).append((deviations, quality.get("to_usual_mm") or 0.0, is_cut))
    found = []
    for name, own in known.items():
        for counted, sign in ((own, 1), ([one for one in own if not one[2]], -1)):
            if len(counted) < LEAST_MASKS:
                continue
            middle, inward_mm = (round(median(one[k] for one in counted), 2) for k in (0, 1))
            if sign * middle > SITE_DEVIATIONS + SURE / len(counted) ** 0.5:
                masks = len(counted)
                found.append({"structure": name, "masks": masks, "deviations": middle, "inward_mm": inward_mm})
    return found


def size_line(found: Mapping[str, Any]) -> str:
    """Say one of these."""
    how, much = ("larger", "much") if found["deviations"] > 0 else ("smaller", "little")
    said = (
        f"{found['structure']}: the masks are {how} than usual, by {abs(found['deviations']):.1f} standard deviations "
        f"(median of {found['masks']}); look whether the network draws too {much}, or other borders are meant"
    )
    inward_mm = found.get("inward_mm", 0.0)  # there is none in reports of earlier versions
    if not LEAST_MM <= abs(inward_mm) < MOST_MM:
        return said
    return f"{said}; with --inward_mm {found['structure']}={inward_mm:.2g} half of them would be usual"
