"""DICOM SEG: a label map as segments on a series' slices, written and read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from ..cases.files import whole_file
from .grid import add_block, turned
from .segments import Segment
from .series import LPS_TO_RAS, Series

SERIES_NUMBER = 1000  # of the SEG; other series of a study have smaller ones
NAME = "implicit_shape_refinement"
VALUE = re.compile(r"label (\d+)")  # how a segment's description says its value in the label map
OTHER_FRAME = "belongs to another frame of reference than the series"


def write_seg(
    path: Path, labels: np.ndarray, series: Series, segments: Sequence[Segment], version: str, title: str
) -> None:
    """Write a label map as DICOM SEG (binary), on the grid of a series, one segment a label.

    Args:
        path: of the file.
        labels: (columns, rows, slices) on the series' grid.
        series: that the mask is of.
        segments: the labels that the map holds.
        version: of the bundle.
        title: the series' description.
    """
    frames = labels.transpose(2, 1, 0)  # slices, rows, columns
    planes = np.stack([frames == one.value for one in segments], axis=-1)
    seg = Segmentation(
        source_images=series.headers(),
        pixel_array=planes.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[_description(number, one, version) for number, one in enumerate(segments, 1)],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=version,
        device_serial_number="none",
        content_label="REFINED",
        series_description=title[:64],
    )
    with whole_file(path) as temporary:
        seg.save_as(temporary)


def _description(number: int, segment: Segment, version: str) -> SegmentDescription:
    """Return what the file says of a segment."""
    description = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=getattr(codes.SCT, segment.keyword),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=NAME, version=version, family=codes.DCM.ArtificialIntelligence
        ),
        display_color=CIELabColor.from_rgb(*segment.colour),
    )
    description.SegmentDescription = f"label {segment.value}"
    if segment.side:
        side = CodedConcept.from_code(getattr(codes.SCT, segment.side))
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def read_seg(file: pydicom.Dataset, series: Series) -> np.ndarray:
    """Return a DICOM SEG as a label map (columns, rows, slices) uint8 on the grid of the series that it is of.

    Values are those that the segments' descriptions name (`label 3`), else the segments' numbers.

    Raises:
        ValueError: it is of another frame of reference, holds shares instead of voxels, or segments that overlap.
        OffGrid: its voxels are not the series'.
    """
    if str(file.get("FrameOfReferenceUID", "")) != series.frame_uid:
        raise ValueError(f"{file.filename!r} {OTHER_FRAME}: give the series that it was drawn on")
    kind = str(file.SegmentationType)
    if kind not in ("BINARY", "LABELMAP"):
        raise ValueError(f"{file.filename!r} is a {kind} segmentation: export it as BINARY or LABELMAP")
    values = {int(one.SegmentNumber): value_of(one) for one in file.SegmentSequence}
    labels = np.zeros(series.shape, np.uint8)
    frames = np.reshape(file.pixel_array, (-1, int(file.Rows), int(file.Columns)))
    shared = file.SharedFunctionalGroupsSequence[0]
    for frame, own in zip(frames, file.PerFrameFunctionalGroupsSequence, strict=True):
        if not frame.any():
            continue
        plane = frame.T[:, :, None]
        if kind == "BINARY":
            number = int(_group(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            plane = np.where(plane != 0, values[number], 0)
        else:
            plane = np.vectorize(values.get, otypes=[int])(plane, 0)
        block, affine = turned(plane, LPS_TO_RAS @ _frame_affine(own, shared, series), series.affine)
        there = labels[add_block(labels, series.affine, block, affine)]
        if (there[block != 0] != 0).any():
            raise ValueError(f"{file.filename!r} has segments that overlap: export each by itself")
        there[block != 0] = block[block != 0]
    return labels


def value_of(segment: pydicom.Dataset) -> int:
    """Return the value of a segment in a label map, from 1 to 255.

    Raises:
        ValueError: there is none so small.
    """
    told = VALUE.fullmatch(str(segment.get("SegmentDescription", "")))
    value = int(told[1]) if told else int(segment.SegmentNumber)
    if not 1 <= value <= 255:
        raise ValueError(f"segment {value}: label maps are written with values up to 255")
    return value


def _frame_affine(own: pydicom.Dataset, shared: pydicom.Dataset, series: Series) -> np.ndarray:
    """Return a frame's affine (4, 4), (column, row, 0) → LPS mm; its third step is the series'."""
    orientation = np.array(_group(own, shared, "PlaneOrientationSequence").ImageOrientationPatient, float)
    row_mm, column_mm = (float(v) for v in _group(own, shared, "PixelMeasuresSequence").PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientation[:3] * column_mm, orientation[3:] * row_mm
    normal = np.cross(orientation[:3], orientation[3:])
    axes = series.affine_lps[:3, :3]
    affine[:3, 2] = axes[:, np.argmax(np.abs(normal @ (axes / np.linalg.norm(axes, axis=0))))]
    affine[:3, 3] = np.array(_group(own, shared, "PlanePositionSequence").ImagePositionPatient, float)
    return affine


def _group(own: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """Return an item that a frame has of its own, or shares with all."""
    return (own if name in own else shared)[name][0]
