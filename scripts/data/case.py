"""What a layout knows of a case before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib

Volume = Path | nib.Nifti1Image  # a NIfTI file that is taken as it is, or one converted from another format


@dataclass(frozen=True)
class Parts:
    """The volumes of a case, on one grid.

    Attributes:
        label: the label map.
        image: the image, None where there is none.
        note: what had to be done to bring them together, "" for nothing.
    """

    label: Volume
    image: Volume | None = None
    note: str = ""


@dataclass(frozen=True)
class RawCase:
    """A case found in a download.

    Attributes:
        name: the files' name without ending.
        read: finds or converts its volumes; raises `CaseError`, `ValueError` or `OSError` where they are no good.
    """

    name: str
    read: Callable[[], Parts]


@dataclass(frozen=True)
class Source:
    """A data set and its publisher.

    Attributes:
        title: its name.
        url: where users get it.
        licence: under which terms.
        citation: the publication to cite.
        labels: label value → name, as written; empty where the download itself says it.
        list_cases: folder of the download → its cases, sorted by name; raises ValueError where it finds none.
    """

    title: str
    url: str
    licence: str
    citation: str
    labels: Mapping[int, str]
    list_cases: Callable[[Path], list[RawCase]]


def require_cases(cases: list[RawCase], folder: Path, wanted: str) -> list[RawCase]:
    """Return the cases.

    Raises:
        ValueError: there are none; `wanted` says what should be there.
    """
    if not cases:
        raise ValueError(f"{folder} holds no {wanted}: give the folder that holds them")
    return cases
