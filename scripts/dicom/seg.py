"""DICOM SEG: a label map as segments on a series' slices, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from .grid import add_block, turned
from .mask import Mask
from .segments import VALUE, Part, Segment
from .series import LPS_TO_RAS, Series

SERIES_NUMBER = 1000  # of the SEG; other series of a study have smaller ones
NAME = "implicit_shape_refinement"
OTHER_FRAME = "it belongs to another frame of reference than the series: give the series that it was drawn on"


def write_seg(path: Path, mask: Mask) -> None:
    """Write a label map as DICOM SEG (binary), on the grid of its series, one segment a label."""
    frames = mask.labels.transpose(2, 1, 0)  # slices, rows, columns
    planes = np.stack([frames == one.value for one in mask.segments], axis=-1)
    seg = Segmentation(
        source_images=mask.series.headers(),
        pixel_array=planes.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[_description(number, one, mask.version) for number, one in enumerate(mask.segments, 1)],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=mask.version,
        device_serial_number="none",
        content_label="REFINED",
        series_description=mask.title,
    )
    seg.save_as(path)


def _description(number: int, segment: Segment, version: str) -> SegmentDescription:
    """Return what the file says of a segment.

    Raises:
        ValueError: its keyword is none of SNOMED CT's.
    """
    if not hasattr(codes.SCT, segment.keyword):
        raise ValueError(f"{segment.keyword}, the code of {segment.name}, is no keyword of pydicom.sr.codedict's SCT")
    lesion = segment.keyword in codes.cid7159.dir()
    description = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure
        if lesion
        else codes.SCT.AnatomicalStructure,
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


def parts_of_seg(file: pydicom.Dataset) -> list[Part]:
    """Return the segments of a DICOM SEG; a LABELMAP's segment 0 is the background, and none.

    Values are those that the segments' descriptions name (`label 3`), else the segments' numbers.
    """
    parts = []
    for one in file.SegmentSequence:
        number = int(one.SegmentNumber)
        told = VALUE.fullmatch(str(one.get("SegmentDescription", "")))
        if number:
            parts.append(Part(number, str(one.SegmentLabel), int(told[1]) if told else number))
    return parts


def read_seg(file: pydicom.Dataset, series: Series, values: Mapping[int, int], names: Mapping[int, str]) -> np.ndarray:
    """Return a DICOM SEG as a label map (columns, rows, slices) uint8 on the grid of the series that it is of.

    Args:
        file: of the SEG.
        series: that it was drawn on.
        values: number of a segment → value in the label map; segments that are not named are left out.
        names: value → name, for messages.

    Raises:
        ValueError: it is of another frame of reference, holds shares instead of voxels, or segments that overlap.
        OffGrid: its voxels are not the series'.
    """
    if str(file.get("FrameOfReferenceUID", "")) != series.frame_uid:
        raise ValueError(OTHER_FRAME)
    kind = str(file.SegmentationType)
    if kind not in ("BINARY", "LABELMAP"):
        raise ValueError(f"it is a {kind} segmentation: export it as BINARY or LABELMAP")
    labels = np.zeros(series.shape, np.uint8)
    frames = np.reshape(file.pixel_array, (-1, int(file.Rows), int(file.Columns)))
    shared = file.SharedFunctionalGroupsSequence[0]
    for frame, own in zip(frames, file.PerFrameFunctionalGroupsSequence, strict=True):
        if kind == "BINARY":
            number = int(_group(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            plane = np.where(frame != 0, values.get(number, 0), 0)
        else:
            numbers, places = np.unique(frame, return_inverse=True)
            plane = np.array([values.get(int(number), 0) for number in numbers])[places].reshape(frame.shape)
        if not plane.any():
            continue
        block, affine = turned(plane.T[:, :, None], LPS_TO_RAS @ _frame_affine(own, shared, series), series.affine)
        there = labels[add_block(labels, series.affine, block, affine)]
        others = there[(block != 0) & (there != 0) & (there != block)]
        if others.size:
            value = int(block[block != 0][0])
            raise ValueError(f"{names[int(others[0])]} and {names[value]} overlap: export each segment by itself")
        there[block != 0] = block[block != 0]
    return labels


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
