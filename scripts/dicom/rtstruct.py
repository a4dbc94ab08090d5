"""DICOM RTSTRUCT: a label map as contours on a series' slices, written and read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from ..geometry.affine import apply_affine
from .contours import contours_of, mask_of
from .grid import OFF, ROUNDING, OffGrid
from .mask import Mask
from .seg import NAME, OTHER_FRAME
from .segments import Part, Segment
from .series import REPEATED, Series

SERIES_NUMBER = 1001
STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # the class by which RTSTRUCT refers to a study
CLOSED = "CLOSED_PLANAR"
FILLED = (CLOSED, "CLOSEDPLANAR_XOR")  # contours that enclose something (DICOM PS3.3, C.8.8.6.1 and C.8.8.6.3)

logger = logging.getLogger(__name__)


def write_rtstruct(path: Path, mask: Mask) -> None:
    """Write a label map as RTSTRUCT: one region of interest a label, whose number is the label's value."""
    series, segments = mask.series, mask.segments
    headers = series.headers()
    file = _dataset(headers[0], mask.version, mask.title)
    file.ReferencedFrameOfReferenceSequence = [_referenced(series, headers)]
    file.StructureSetROISequence = [_roi(one, series.frame_uid) for one in segments]
    file.ROIContourSequence = [
        _item(
            ROIDisplayColor=list(one.colour),
            ReferencedROINumber=one.value,
            ContourSequence=_contours(mask.labels == one.value, series, headers),
        )
        for one in segments
    ]
    file.RTROIObservationsSequence = [
        _item(ObservationNumber=n, ReferencedROINumber=one.value, RTROIInterpretedType="ORGAN", ROIInterpreter="")
        for n, one in enumerate(segments, 1)
    ]
    pydicom.dcmwrite(path, file, enforce_file_format=True)


def parts_of_rtstruct(file: pydicom.Dataset) -> list[Part]:
    """Return the regions of interest of an RTSTRUCT; their values are their numbers."""
    return [
        Part(int(one.ROINumber), str(one.get("ROIName", "")) or f"label {one.ROINumber}", int(one.ROINumber))
        for one in file.StructureSetROISequence
    ]


def read_rtstruct(
    file: pydicom.Dataset, series: Series, values: Mapping[int, int], names: Mapping[int, str]
) -> np.ndarray:
    """Return an RTSTRUCT as a label map (columns, rows, slices) uint8 on the grid of the series that it is of.

    A voxel belongs to a region if an odd number of its contours encloses its centre. Of regions that share voxels the
    later one has them; that is logged, as are contours that enclose nothing.

    Args:
        file: of the RTSTRUCT.
        series: that it was drawn on.
        values: number of a region → value in the label map; regions that are not named are left out.
        names: value → name, for messages.

    Raises:
        ValueError: it is of another frame of reference.
        OffGrid: contours do not lie in the slices.
    """
    own = [one for one in file.StructureSetROISequence if int(one.ROINumber) in values]
    if {str(one.ReferencedFrameOfReferenceUID) for one in own} != {series.frame_uid}:
        raise ValueError(OTHER_FRAME)
    labels = np.zeros(series.shape, np.uint8)
    for roi in file.ROIContourSequence:
        value = values.get(int(roi.ReferencedROINumber), 0)
        if value:
            _fill(labels, value, roi, series, names)
    return labels


def _fill(labels: np.ndarray, value: int, roi: pydicom.Dataset, series: Series, names: Mapping[int, str]) -> None:
    """Give a region's voxels its value in a label map (columns, rows, slices)."""
    to_index = np.linalg.inv(series.affine_lps)
    found: dict[int, list[np.ndarray]] = {}
    for contour in roi.get("ContourSequence", []):
        kind = str(contour.ContourGeometricType)
        if kind not in FILLED:
            logger.warning(f"{names[value]}: a contour of the type {kind} encloses nothing, and is left out")
            continue
        index = apply_affine(to_index, np.reshape(np.array(contour.ContourData, float), (-1, 3)))
        slices = np.rint(index[:, 2]).astype(int)
        if np.abs(index[:, 2] - slices[0]).max() > OFF + ROUNDING or not 0 <= slices[0] < series.shape[2]:
            raise OffGrid(f"contours of {names[value]} do not lie in the series' slices")
        found.setdefault(int(slices[0]), []).append(index[:, :2])
    shared = np.zeros(256, int)
    for number, contours in found.items():
        plane, inside = labels[:, :, number], mask_of(contours, series.shape[:2])
        shared += np.bincount(plane[inside], minlength=256)
        plane[inside] = value
    for other in np.flatnonzero(shared):
        if other not in (0, value):
            logger.warning(f"{names[int(other)]} and {names[value]} share {shared[other]} voxels: the latter has them")


def _contours(mask: np.ndarray, series: Series, headers: Sequence[pydicom.Dataset]) -> list[pydicom.Dataset]:
    """Return the contours of a mask (columns, rows, slices) bool, each with the slice that it lies in."""
    found = []
    for number in np.flatnonzero(mask.any(axis=(0, 1))):
        image = _reference(headers[int(number)])
        for contour in contours_of(mask[:, :, number]):
            index = np.column_stack([contour, np.full(len(contour), float(number))])
            points = apply_affine(series.affine_lps, index)
            found.append(
                _item(
                    ContourImageSequence=[image],
                    ContourGeometricType=CLOSED,
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{value:.4f}" for value in points.reshape(-1)],
                )
            )
    return found


def _referenced(series: Series, headers: Sequence[pydicom.Dataset]) -> pydicom.Dataset:
    """Return the frame of reference, and in it the study, the series and its slices."""
    images = _item(
        SeriesInstanceUID=headers[0].SeriesInstanceUID,
        ContourImageSequence=[_reference(one) for one in headers],
    )
    study = _item(
        ReferencedSOPClassUID=STUDY_MANAGEMENT,
        ReferencedSOPInstanceUID=headers[0].StudyInstanceUID,
        RTReferencedSeriesSequence=[images],
    )
    return _item(FrameOfReferenceUID=series.frame_uid, RTReferencedStudySequence=[study])


def _roi(segment: Segment, frame_uid: str) -> pydicom.Dataset:
    return _item(
        ROINumber=segment.value,
        ReferencedFrameOfReferenceUID=frame_uid,
        ROIName=segment.name,
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _reference(header: pydicom.Dataset) -> pydicom.Dataset:
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _dataset(header: pydicom.Dataset, version: str, title: str) -> FileDataset:
    """Return a structure set of the patient and the study of a slice."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for name in (*REPEATED, "StudyInstanceUID", "StudyDescription", "SpecificCharacterSet"):
        if name in header:
            setattr(file, name, header[name].value)
    now = datetime.now()
    file.SOPClassUID, file.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    file.SeriesInstanceUID, file.SeriesNumber, file.Modality = generate_uid(), SERIES_NUMBER, "RTSTRUCT"
    file.FrameOfReferenceUID = header.FrameOfReferenceUID
    file.Manufacturer = file.ManufacturerModelName = NAME
    file.SoftwareVersions, file.OperatorsName, file.ApprovalStatus = version, "", "UNAPPROVED"
    file.SeriesDescription, file.StructureSetLabel = title, "REFINED"
    file.StructureSetDate = file.SeriesDate = file.InstanceCreationDate = now.strftime("%Y%m%d")
    file.StructureSetTime = file.SeriesTime = file.InstanceCreationTime = now.strftime("%H%M%S")
    return file


def _item(**elements: object) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item
