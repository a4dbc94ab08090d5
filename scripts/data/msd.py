"""Medical Segmentation Decathlon: `TaskNN_Name/` with imagesTr/, labelsTr/ and dataset.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai.apps import DecathlonDataset, download_and_extract

from ..cases.find import case_name
from .case import Parts, RawCase, Source, require_cases


def list_cases(folder: Path) -> list[RawCase]:
    """List the training cases that dataset.json names.

    Raises:
        ValueError: there is no dataset.json, or it names no training case.
    """
    pairs = _description(folder).get("training", [])
    cases = [
        RawCase(case_name(pair["label"]), _reader(folder / pair["image"], folder / pair["label"])) for pair in pairs
    ]
    return require_cases(sorted(cases, key=lambda case: case.name), folder, "training case in dataset.json")


def read_labels(folder: Path) -> dict[int, str]:
    """Return the task's label values and names, without the background."""
    return {int(value): str(name) for value, name in _description(folder).get("labels", {}).items() if int(value) != 0}


def download(task: str, folder: Path) -> Path:
    """Download a task with MONAI's addresses and check sums, and unpack it.

    Args:
        task: such as Task04_Hippocampus.
        folder: where the archive and the task's folder go; an archive already there is not loaded again.

    Returns:
        The task's folder.

    Raises:
        ValueError: there is no such task.
    """
    if task not in DecathlonDataset.resource:
        raise ValueError(f"no task '{task}'; there are {', '.join(sorted(DecathlonDataset.resource))}")
    folder.mkdir(parents=True, exist_ok=True)
    download_and_extract(
        url=DecathlonDataset.resource[task],
        filepath=folder / f"{task}.tar",
        output_dir=folder,
        hash_val=DecathlonDataset.md5[task],
        hash_type="md5",
        progress=True,
    )
    return folder / task


def _reader(image: Path, label: Path) -> Callable[[], Parts]:
    return lambda: Parts(label, image)


def _description(folder: Path) -> dict[str, Any]:
    file = folder / "dataset.json"
    if not file.is_file():
        raise ValueError(f"{file} is missing: give a task's own folder, such as Task04_Hippocampus")
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON ({error}): download it again") from error


SOURCE = Source(
    title="Medical Segmentation Decathlon",
    url="http://medicaldecathlon.com",
    licence="CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/",
    citation="Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022)",
    labels={},
    list_cases=list_cases,
)
