"""A label map on a series' slices, with all that DICOM files of it say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .segments import Segment
from .series import Series


@dataclass(frozen=True)
class Mask:
    """A label map that is written as DICOM.

    Attributes:
        labels: (columns, rows, slices) on the series' grid.
        series: that it is of.
        segments: the labels that it holds.
        version: of the bundle.
        title: the description of the series that the file makes, 64 letters at most.
    """

    labels: np.ndarray
    series: Series
    segments: Sequence[Segment]
    version: str
    title: str
