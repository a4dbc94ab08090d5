"""What is said above the tables of an evaluation: what was scored, how, and what was not."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics.earth_movers import EMD_SAMPLES
from ..metrics.shapes import SAMPLES
from ..metrics.statistics import HARM_DSC
from ..report.words import counted
from .pairing import STAGE_MARK, Pairing, some_of
from .postprocess import LARGEST
from .scoring import Scoring

NAMED_AT_MOST = 20  # cases in one list


def notes_of(pairing: Pairing, scoring: Scoring, resamples: int) -> list[str]:
    policy = scoring.policy
    penalty = policy.distance_penalty_mm
    distance = "the diagonal of the image" if penalty is None else f"{penalty:g} mm"
    patients = {case.patient for case in pairing.cases}
    notes = [
        count_cases(pairing),
        f"{counted(len(pairing.cases), 'case')} of {counted(len(patients), 'patient')}. "
        f"Mean ± standard deviation (median) over cases; DSC and NSD in %, NSD at "
        f"{scoring.nsd_tolerance_mm:g} mm, distances in mm on the original grid."
        + (" Labels were brought to the masks' grid by the nearest voxel." if scoring.resample_labels else ""),
        f"Empty masks: missed structure: {policy.prediction_empty}; structure found that is not there: "
        f"{policy.truth_empty}; both empty: {policy.both_empty}. Penalised is DSC = NSD = 0 and {distance} for "
        "distances; ignored is not counted. `failed` counts the cases with exactly one empty mask.",
    ]
    if any(scoring.reference in case.predictions for case in pairing.cases):
        notes[1] += (
            f" Differences are paired, method minus {scoring.reference}, with 95 % bootstrap intervals "
            f"({resamples:,} resamples of patients) and p of Wilcoxon's signed-rank test on the patients' mean "
            "differences, since cases of one patient are not independent; p is not corrected for the number of tests."
        )
    if scoring.shape_metrics:
        notes.append(
            f"CD: mean squared nearest distances of {SAMPLES:,} surface samples, both directions added, × 1000; EMD: "
            f"mean distance under the best bijection of {EMD_SAMPLES:,}. Both surfaces are scaled by the truth's "
            "centre and diameter (shared normalisation). Floor: the truth against another draw of itself, which is "
            "what a perfect mask scores. Point to surface: mean distance of either surface's samples to the other, in "
            "mm. Volume difference: unsigned, in % of the true volume. For CD and EMD a penalised mask counts as two "
            "points that lie the penalty apart."
        )
    if pairing.without_label:
        notes.append(f"Predictions without a label, not scored: {some_of(pairing.without_label, NAMED_AT_MOST)}.")
    if pairing.without_prediction:
        notes.append(f"Labels without a prediction, not scored: {some_of(pairing.without_prediction, NAMED_AT_MOST)}.")
    if pairing.counted_missing:
        notes.append(f"Scored as an empty mask, since there is no prediction: {_listed(pairing.counted_missing)}.")
    if pairing.failed:
        notes.append(
            f"Not scored, failed in the run: {counted(len(pairing.failed), 'case')}: {_listed(pairing.failed)}."
        )
    if pairing.kept:
        count = counted(len(pairing.kept), "case")
        notes.append(f"Scored with the initial mask, which the run kept: {count}: {_listed(pairing.kept)}.")
    if pairing.incomplete:
        notes.append(f"Not scored, missing in some method: {_listed(pairing.incomplete)}.")
    return notes


def _listed(methods_of: Mapping[str, Sequence[str]]) -> str:
    """Return case → methods as text, such as "a (default, linear); b (paper)"."""
    return "; ".join(f"{case} ({', '.join(methods)})" for case, methods in methods_of.items())


def count_cases(pairing: Pairing) -> str:
    """Return in a sentence how many cases are scored and how many are not, for the head of the table."""
    counts = {
        ("label", "without a prediction"): len(pairing.without_prediction),
        ("prediction", "without a label"): len(pairing.without_label),
        ("case", "missing in some method"): len(pairing.incomplete),
        ("case", "failed in the run"): len(pairing.failed),
        ("case", "with a file that is no good"): len(pairing.unusable),
    }
    left_out = [f"{counted(number, noun)} {what}" for (noun, what), number in counts.items() if number]
    text = f"Scored: {counted(len(pairing.cases), 'case')}."
    if pairing.counted_missing:
        text += f" Of these {len(pairing.counted_missing)} lack a prediction and count as empty masks."
    return f"{text} Not scored: {', '.join(left_out)}." if left_out else text


def unusable_note(pairing: Pairing, folders: Sequence[str | Path]) -> list[str]:
    """Return the note of cases with a file that is no good; without the folders, for who else reads the table."""
    if not pairing.unusable:
        return []
    text = "; ".join(f"{case}: {reason}" for case, reason in pairing.unusable.items())
    for folder in folders:
        text = text.replace(f"{Path(str(folder).partition(STAGE_MARK)[0])}{os.sep}", "")
    return [f"Not scored, a file is no good: {counted(len(pairing.unusable), 'case')}: {text}."]


def largest_notes(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[str]:
    """Return for each method a note that names where the largest component is better than it.

    Args:
        rows: scores, one a case, structure and method.
        methods: that are compared with it; where it was not scored, nothing is said.
    """
    dsc = {(row["case"], row["structure"], row["method"]): float(row["dsc"]) for row in rows}
    simple = {(case, structure): value for (case, structure, method), value in dsc.items() if method == LARGEST}
    notes = []
    for method in methods if simple else ():
        lead = {key: value - dsc.get((*key, method), math.nan) for key, value in simple.items()}
        scored = {key: points for key, points in lead.items() if not math.isnan(points)}
        ahead = sorted((key for key in scored if scored[key] > HARM_DSC), key=lambda key: -scored[key])
        named = ", ".join(
            f"{case} {structure} ({scored[case, structure]:.1f})" for case, structure in ahead[:NAMED_AT_MOST]
        )
        text = (
            f"The {LARGEST} is more than {HARM_DSC:g} DSC points better than {method} in {len(ahead)} of {len(scored)}"
        )
        more = f" and {len(ahead) - NAMED_AT_MOST} more" if len(ahead) > NAMED_AT_MOST else ""
        notes.append(f"{text}: {named}{more}." if ahead else f"{text}.")
    return notes
