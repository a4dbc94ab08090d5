"""What the page shows of a case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .surfaces import Surface


@dataclass
class StructurePage:
    """One structure of one case.

    Attributes:
        name: of the structure.
        failure: why it could not be refined, or "".
        status: "refined", "unchanged" or "kept"; "" where the report does not say.
        doubtful: whether the fit cannot be right.
        outside_prior: why the shape is none that the prior knows, or "".
        words: sentences on what happened to it.
        figures: name with unit → number.
        regions: what the gate judged, as in the report.
        seconds: stage → seconds.
        surfaces: at most one a stage.
    """

    name: str
    failure: str = ""
    status: str = ""
    doubtful: bool = False
    outside_prior: str = ""
    words: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    regions: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    surfaces: list[Surface] = field(default_factory=list)


@dataclass
class SlicesPage:
    """A case's volumes, cropped and turned (see `Crop`).

    Attributes:
        affine: (4, 4) voxel index → world mm.
        spacing_mm: (3,).
        labels: stage → (X, Y, Z) uint8: 0 or a number of the run's `parts`, which count from 1.
        image: (x, y, z) uint8 grey values, or None.
        image_step: voxels of the labels an image voxel covers along each axis.
    """

    affine: np.ndarray
    spacing_mm: np.ndarray
    labels: dict[str, np.ndarray]
    image: np.ndarray | None = None
    image_step: list[int] = field(default_factory=lambda: [1, 1, 1])


@dataclass
class CasePage:
    """One case: what the report says of it, and what its files hold.

    Attributes:
        record: the case's part of `report.json`.
        structures: one each, also where nothing can be drawn.
        slices: None where nothing can be drawn.
        notes: what could not be shown, and why.
        flags: [kind, text] quality flags.
        totals: number and volume of accepted and refused regions.
        thumbnail: address of a small picture, "" for none.
    """

    record: dict[str, Any]
    structures: list[StructurePage] = field(default_factory=list)
    slices: SlicesPage | None = None
    notes: list[str] = field(default_factory=list)
    flags: list[list[str]] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)
    thumbnail: str = ""

    @property
    def name(self) -> str:
        """The case's name."""
        return str(self.record["case"])

    def not_drawn(self, reason: str) -> None:
        """Show the case by its figures only, with the reason."""
        self.notes.append(reason)
        self.slices = None
        for structure in self.structures:
            structure.surfaces = []
