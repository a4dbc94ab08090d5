"""A DICOM series as one volume in the world that NIfTI has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_rescale

from ..geometry.affine import check_affine
from .grid import OFF

PIXELS = 0x7FE00010
NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
REPEATED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Series:
    """A DICOM series: a volume of slices, of which one lies behind the other.

    Attributes:
        slices: in the order of their places in the patient.
        affine: (4, 4) voxel index (column, row, slice) → world mm, RAS+.
        folder: that it was read from.
    """

    slices: list[pydicom.FileDataset]
    affine: np.ndarray
    folder: Path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        return int(self.slices[0].Columns), int(self.slices[0].Rows), len(self.slices)

    @property
    def affine_lps(self) -> np.ndarray:
        """The affine (4, 4) in DICOM's own world: left, posterior, superior."""
        return LPS_TO_RAS @ self.affine

    @property
    def frame_uid(self) -> str:
        """The frame of reference, in which the patient's places are said.

        Raises:
            ValueError: the slices name none, or several.
        """
        found = {str(one.get("FrameOfReferenceUID", "")) for one in self.slices}
        if len(found) != 1 or not next(iter(found)):
            raise ValueError(
                f"{self.folder}: the slices name {'several' if len(found) > 1 else 'no'} frame of reference"
            )
        return found.pop()

    def headers(self) -> list[pydicom.Dataset]:
        """Return the slices without pixels, with what derived objects repeat of the patient and the study.

        What is missing of it, as in series without names, is there and empty.

        Raises:
            ValueError: a slice lacks what nothing can be derived without.
        """
        found = []
        for one in self.slices:
            lacking = [name for name in NEEDED if not one.get(name)]
            if lacking:
                raise ValueError(
                    f"{one.filename!r} has no {', '.join(lacking)}: give the series as the scanner wrote it"
                )
            header = pydicom.Dataset()
            header.update({element.tag: element for element in one if element.tag != PIXELS})
            header.file_meta = one.file_meta
            for name in REPEATED:
                if name not in header:
                    setattr(header, name, "")
            found.append(header)
        return found

    def values(self) -> np.ndarray:
        """Return the values (columns, rows, slices) in the modality's unit: int16 where all are whole, else float32.

        Raises:
            ValueError: pixels cannot be decoded.
        """
        return _stack(self.slices)

    @classmethod
    def open(cls, folder: Path) -> Series:
        """Read the slices below a folder, in the order of their places, whatever their names and numbers.

        With the position S of a slice's first pixel, the directions X (of a row) and Y (of a column) and the distances
        Δ, column j and row i lie at `S + X Δ_j j + Y Δ_i i` in the patient's LPS frame (DICOM PS3.3, C.7.6.2.1.1). X
        and Y are negated for NIfTI's RAS. Slices are sorted along X × Y; their step is measured, so that a tilted
        gantry keeps its shear.

        Raises:
            ValueError: there is no slice, there are several series, slices differ in shape or direction, or one is
                missing.
        """
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}: give that of a DICOM series")
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        slices = [found for file in files if (found := _slice(file))]
        if len(slices) < 2:
            raise ValueError(f"{folder} holds {len(slices)} DICOM slices, not a series{_frames(files)}")
        if len({str(s.get("SeriesInstanceUID", "")) for s in slices}) > 1:
            raise ValueError(f"{folder} holds several DICOM series: leave the one that belongs to the label")
        first = slices[0]
        orientation = np.array(first.ImageOrientationPatient, dtype=float)
        for s in slices:
            same = (s.Rows, s.Columns) == (first.Rows, first.Columns)
            same &= np.allclose(np.array(s.ImageOrientationPatient, dtype=float), orientation, atol=1e-4)
            same &= np.allclose(np.array(s.PixelSpacing, float), np.array(first.PixelSpacing, float), atol=1e-4)
            if not same:
                raise ValueError(f"{s.filename!r} differs from the other slices in size, spacing or direction")
        along_row, along_column = orientation[:3], orientation[3:]
        positions = np.array([s.ImagePositionPatient for s in slices], dtype=float)
        order = np.argsort(positions @ np.cross(along_row, along_column), kind="stable")
        positions = positions[order]
        step = (positions[-1] - positions[0]) / (len(slices) - 1)
        affine = np.eye(4)
        row_mm, column_mm = (float(v) for v in first.PixelSpacing)  # distances between rows, then between columns
        affine[:3, :3] = np.stack([along_row * column_mm, along_column * row_mm, step], axis=1)
        affine[:3, 3] = positions[0]
        try:
            affine = check_affine(LPS_TO_RAS @ affine)
        except ValueError as error:
            raise ValueError(f"{folder}: the slices do not lie one behind the other ({error})") from error
        off = (positions - (positions[0] + np.arange(len(slices))[:, None] * step)) * (-1.0, -1.0, 1.0)
        if not np.abs(off @ np.linalg.inv(affine[:3, :3]).T).max() <= OFF:
            off_mm = np.linalg.norm(off, axis=1).max()
            raise ValueError(f"{folder}: slices are missing, doubled or unevenly spaced (up to {off_mm:.2f} mm off)")
        return cls([slices[k] for k in order], affine, folder)


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a series and its affine, see `Series`.

    Raises:
        ValueError: the folder holds no whole series, or pixels cannot be decoded.
    """
    series = Series.open(folder)
    return series.values(), series.affine


def _slice(file: Path) -> pydicom.FileDataset | None:
    """Read a file; None where it is no DICOM image with a place in the patient."""
    try:
        found = pydicom.dcmread(file)
    except InvalidDicomError:
        return None
    wanted = ("PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    return found if all(name in found for name in wanted) else None


def _frames(files: Sequence[Path]) -> str:
    """Say which file holds many slices at once, where one does; "" if none."""
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if int(header.get("NumberOfFrames") or 1) > 1 and header.get("Modality") != "SEG":
            return f": {file} is multi-frame, which is not read; convert it with dcm2niix, or export single slices"
    return ""


def _stack(slices: list[pydicom.FileDataset]) -> np.ndarray:
    planes = []
    for s in slices:
        try:
            planes.append(apply_rescale(s.pixel_array, s).T.astype(np.float32))
        except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{s.filename!r}: its pixels cannot be decoded ({error}): store it uncompressed"
            ) from error
    values = np.stack(planes, axis=2)
    whole = values.astype(np.int16)
    return whole if np.array_equal(whole, values) else values
