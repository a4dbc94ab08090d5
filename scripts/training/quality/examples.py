"""Masks whose truth is known, with the figures of their fits: gathered from runs that were scored."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from ...cases.find import match_name
from ...evaluation.scoring import REFERENCE
from ...organ.side_names import without_side
from ...quality.features import features
from ...quality.predictor import targets_of
from ...quality.verdict import STAGES
from ...report.run_report import read_report

METRICS = Path("eval") / "metrics.csv"
PRESET = "default"


@dataclass(frozen=True)
class Example:
    """One mask of one structure.

    Attributes:
        group: the set that it belongs to, such as a network's folder.
        organ: the pack's name.
        patient: whose it is; masks of one patient are not independent.
        structure: its name.
        stage: "initial" or "refined".
        features: (F,) see `quality.features`.
        radius_mm: of the fitted shape.
        dsc: DSC %.
        hd95_mm: HD95, mm.
    """

    group: str
    organ: str
    patient: str
    structure: str
    stage: str
    features: Any
    radius_mm: float
    dsc: float
    hd95_mm: float

    @property
    def kind(self) -> str:
        """A key of the organ without its side: packs share some, such as the liver of `liver` and `abdomen`."""
        return without_side(self.structure)

    @property
    def targets(self) -> tuple[float, float]:
        """What is predicted of it, see `quality.predictor.targets_of`."""
        return targets_of(self.dsc, self.hd95_mm, self.radius_mm)


def load_examples(patterns: Sequence[str], told_by: str = "fit") -> list[Example]:
    """Return the masks of benchmarks' output folders.

    Args:
        patterns: of folders that `python -m scripts benchmark` wrote for the preset `default`, or folders of these.
        told_by: what is to tell of them, "fit" or "image", see `quality.features`.

    Raises:
        ValueError: a pattern fits no folder, or there is no benchmark in it.
    """
    found: list[Example] = []
    for pattern in patterns:
        folders = [Path(name) for name in sorted(glob(pattern)) if Path(name).is_dir()]
        runs = [run for folder in folders for run in sorted({folder, *(file.parents[1] for file in _scored(folder))})]
        own = [example for run in runs if (run / METRICS).is_file() for example in read_run(run, told_by)]
        if not own:
            with_image = " whose voxel head has read images" if told_by == "image" else ""
            raise ValueError(
                f"{pattern}: no benchmark with the preset {PRESET} in it{with_image}: give output folders of "
                "`python -m scripts benchmark`"
            )
        found += own
    return found


def read_run(run: Path, told_by: str = "fit") -> list[Example]:
    """Return the masks of one benchmark's output folder of which something is predicted, see `quality.verdict`."""
    report = read_report(run / PRESET)
    organ = Path(str(report["settings"]["organ"])).name
    scores = _scores(run / METRICS)
    names = {case for case, _, _ in scores}
    group = run.name if run.parent.name in ("", ".") else f"{run.parent.name}/{run.name}"
    found = []
    for case in report["cases"]:
        name = match_name(case["case"], names)
        for part in case["structures"]:
            quality = part["quality"]
            for stage, method in zip(STAGES, (REFERENCE, PRESET), strict=True):
                score = scores.get((name or "", part["name"], method))
                if score is None or "agreement" not in quality or quality["doubtful"]:
                    continue
                radius_mm = float(quality["fit"]["radius_mm"])
                figures = features(quality["agreement"][stage], told_by)
                if not np.isfinite(figures).any() or (told_by == "fit" and quality.get("taken_in_mm")):
                    continue
                own = (group, organ, score["patient"], part["name"], stage, figures, radius_mm)
                found.append(Example(*own, float(score["dsc"]), float(score["hd95_mm"])))
    return found


def _scored(folder: Path) -> list[Path]:
    return [file for file in folder.rglob(METRICS.name) if file.parent.name == METRICS.parent.name]


def _scores(metrics_csv: Path) -> dict[tuple[str, str, str], Mapping[str, str]]:
    """Case, structure and method → its line, of those that could be scored, and are neither missed nor invented."""
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows = [row for row in rows if row["failed"] == "0" and row["dsc"] and row["hd95_mm"]]
    known = [row for row in rows if math.isfinite(float(row["hd95_mm"]))]
    return {(row["case"], row["structure"], row["method"]): row for row in known}
