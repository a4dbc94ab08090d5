"""DICOM RTSTRUCT: a label map as contours on a series' slices, written and read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from ..cases.files import whole_file
from ..geometry.affine import apply_affine
from .contours import contours_of, mask_of
from .grid import OffGrid
from .seg import NAME, OTHER_FRAME
from .segments import Segment
from .series import REPEATED, Series

SERIES_NUMBER = 1001
STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # the class by which RTSTRUCT refers to a study
CLOSED = "CLOSED_PLANAR"
OFF_SLICE = 0.1  # of the slice distance: how far a contour may lie from its slice


def write_rtstruct(
    path: Path, labels: np.ndarray, series: Series, segments: Sequence[Segment], version: str, title: str
) -> None:
    """Write a label map as RTSTRUCT: one region of interest a label, whose number is the label's value.

    Args:
        path: of the file.
        labels: (columns, rows, slices) on the series' grid.
        series: that the mask is of.
        segments: the labels that the map holds.
        version: of the bundle.
        title: the series' description.
    """
    headers = series.headers()
    file = _dataset(headers[0], version, title)
    file.ReferencedFrameOfReferenceSequence = [_referenced(series, headers)]
    file.StructureSetROISequence = [_roi(one, series.frame_uid) for one in segments]
    file.ROIContourSequence = [
        _item(
            ROIDisplayColor=list(one.colour),
            ReferencedROINumber=one.value,
            ContourSequence=_contours(labels == one.value, series, headers),
        )
        for one in segments
    ]
    file.RTROIObservationsSequence = [
        _item(ObservationNumber=n, ReferencedROINumber=one.value, RTROIInterpretedType="ORGAN", ROIInterpreter="")
        for n, one in enumerate(segments, 1)
    ]
    with whole_file(path) as temporary:
        pydicom.dcmwrite(temporary, file, enforce_file_format=True)


def read_rtstruct(file: pydicom.Dataset, series: Series) -> np.ndarray:
    """Return an RTSTRUCT as a label map (columns, rows, slices) uint8 on the grid of the series that it is of.

    Values are the numbers of the regions of interest. A voxel belongs to one if an odd number of its contours encloses
    its centre; of regions that share a voxel the later one has it.

    Raises:
        ValueError: it is of another frame of reference, or a number is larger than 255.
        OffGrid: contours do not lie in the slices.
    """
    frames = {str(one.ReferencedFrameOfReferenceUID) for one in file.StructureSetROISequence}
    if frames != {series.frame_uid}:
        raise ValueError(f"{file.filename!r} {OTHER_FRAME}: give the series that it was drawn on")
    labels = np.zeros(series.shape, np.uint8)
    to_index = np.linalg.inv(series.affine_lps)
    for roi in file.ROIContourSequence:
        value = int(roi.ReferencedROINumber)
        if not 1 <= value <= 255:
            raise ValueError(f"{file.filename!r}: region {value}: label maps are written with values up to 255")
        found: dict[int, list[np.ndarray]] = {}
        for contour in roi.get("ContourSequence", []):
            if str(contour.ContourGeometricType) != CLOSED:
                continue
            index = apply_affine(to_index, np.reshape(np.array(contour.ContourData, float), (-1, 3)))
            slices = np.rint(index[:, 2]).astype(int)
            if np.abs(index[:, 2] - slices[0]).max() > OFF_SLICE or not 0 <= slices[0] < series.shape[2]:
                raise OffGrid(f"contours of region {value} do not lie in the series' slices")
            found.setdefault(int(slices[0]), []).append(index[:, :2])
        for number, contours in found.items():
            labels[:, :, number][mask_of(contours, series.shape[:2])] = value
    return labels


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
    file.SeriesDescription, file.StructureSetLabel = title[:64], "REFINED"
    file.StructureSetDate = file.SeriesDate = file.InstanceCreationDate = now.strftime("%Y%m%d")
    file.StructureSetTime = file.SeriesTime = file.InstanceCreationTime = now.strftime("%H%M%S")
    return file


def _item(**elements: object) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item
