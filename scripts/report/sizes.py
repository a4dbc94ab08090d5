"""Whether a run's masks of a structure are on average larger, or smaller, than the organ usually is.

One mask of one and a half standard deviations says nothing, since some people have large organs. Ten such masks say
that the network, or the way of drawing, differs from those of the prior's training shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEAST_MASKS = 5
SITE_DEVIATIONS = 0.5  # by which means of true organs of another data set differ
SURE = 1.645  # of a normal mean, on one side: 95 %
CUT_SHARE = 0.01  # of a surface at the image's end: what is cut is small by that


def unusual_sizes(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the structures whose initial masks have an unusual size on average, in the order in which they come.

    Args:
        cases: of a report.

    Returns:
        Of each `structure`, how many `masks` were counted, and the mean of their volumes in standard `deviations` of
        the training organs', see `prior.volume`. Masks that are cut by the image, or that look like no such organ, do
        not count.
    """
    known: dict[str, list[float]] = {}
    for part in (part for case in cases for part in case["structures"]):
        quality = part.get("quality") or {}
        figures = (quality.get("agreement") or {}).get("initial") or {}
        deviations = figures.get("volume_deviations")
        if deviations is not None and not quality["doubtful"] and figures["at_border"] <= CUT_SHARE:
            known.setdefault(part["name"], []).append(deviations)
    means = {name: sum(own) / len(own) for name, own in known.items() if len(own) >= LEAST_MASKS}
    return [
        {"structure": name, "masks": len(known[name]), "deviations": round(mean, 2)}
        for name, mean in means.items()
        if abs(mean) > SITE_DEVIATIONS + SURE / len(known[name]) ** 0.5
    ]


def size_line(found: Mapping[str, Any]) -> str:
    """Say one of these, such as "10 masks of pancreas are larger than usual, by 2.9 standard deviations on average"."""
    how = "larger" if found["deviations"] > 0 else "smaller"
    return (
        f"{found['masks']} masks of {found['structure']} are {how} than usual, by {abs(found['deviations']):.1f} "
        "standard deviations on average: the network, the way of drawing, or disease?"
    )
