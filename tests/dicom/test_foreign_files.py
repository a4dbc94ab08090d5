"""SEG and RTSTRUCT as other programs write them, whole and incomplete."""

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

from scripts.cases.label_names import names_of
from scripts.dicom.job import dicom
from scripts.dicom.mask import Mask
from scripts.dicom.rtstruct import write_rtstruct
from scripts.dicom.seg import write_seg
from scripts.dicom.segments import segments_of
from scripts.dicom.series import Series
from scripts.organ.pack import OrganPack
from tests.helpers.drawn_series import labels, write_case


@pytest.fixture
def case(tmp_path):
    """A folder with a series, and SEG and RTSTRUCT of a mask of the hippocampus."""
    write_case(tmp_path, "straight")
    series = Series.open(tmp_path / "series")
    mask = Mask(labels(), series, segments_of([1, 2], OrganPack.load("hippocampus")), "1", "a mask")
    write_seg(tmp_path / "seg.dcm", mask)
    write_rtstruct(tmp_path / "rtstruct.dcm", mask)
    return tmp_path


def changed(case, name, change) -> str:
    """The path of a file after a change of its elements."""
    file = pydicom.dcmread(case / name)
    change(file)
    file.save_as(case / "changed.dcm")
    return str(case / "changed.dcm")


def read(case, file, **options) -> tuple[np.ndarray, str]:
    """The label map that the command makes of a file, and what it says."""
    said = dicom(str(case / "series"), str(file), str(case / "out"), **options)
    return np.asarray(nib.load(case / "out" / "changed.nii.gz").dataobj), said


def test_a_label_map_seg_with_a_background_segment_is_read(case):
    series = Series.open(case / "series")
    organ = pydicom.sr.codedict.codes.SCT.Organ
    described = [
        highdicom.seg.SegmentDescription(number, name, organ, organ, "MANUAL")
        for number, name in enumerate(("one", "two"), 1)
    ]
    seg = highdicom.seg.Segmentation(
        source_images=series.headers(), pixel_array=labels().transpose(2, 1, 0), segmentation_type="LABELMAP",
        segment_descriptions=described, series_instance_uid=pydicom.uid.generate_uid(), series_number=1,
        sop_instance_uid=pydicom.uid.generate_uid(), instance_number=1, manufacturer="x", manufacturer_model_name="x",
        software_versions="1", device_serial_number="1",
    )  # fmt: skip
    assert [int(one.SegmentNumber) for one in seg.SegmentSequence] == [0, 1, 2]
    seg.save_as(case / "changed.dcm")
    found, said = read(case, case / "changed.dcm")
    np.testing.assert_array_equal(found, labels())
    assert "1: one, " in said and "Background" not in said


def test_contours_that_are_combined_by_xor_are_read(case):
    def xor(file):
        for roi in file.ROIContourSequence:
            for contour in roi.ContourSequence:
                contour.ContourGeometricType = "CLOSEDPLANAR_XOR"

    np.testing.assert_array_equal(read(case, changed(case, "rtstruct.dcm", xor))[0], labels())


def test_a_file_without_a_voxel_is_refused_and_open_contours_are_named(case, caplog):
    def opened(file, regions=2):
        for roi in file.ROIContourSequence[:regions]:
            for contour in roi.ContourSequence:
                contour.ContourGeometricType = "OPEN_PLANAR"

    with pytest.raises(ValueError, match="has no voxel in the series"):
        read(case, changed(case, "rtstruct.dcm", opened))
    assert "anterior: a contour of the type OPEN_PLANAR encloses nothing" in caplog.text
    found, said = read(case, changed(case, "rtstruct.dcm", lambda file: opened(file, 1)))
    np.testing.assert_array_equal(found, np.where(labels() == 2, 2, 0))
    assert "no voxel is of anterior" in caplog.text and "anterior" not in said


@pytest.mark.parametrize("name", ["seg.dcm", "rtstruct.dcm"])
def test_names_are_printed_and_kept_in_the_label_map(case, name):
    file = changed(case, name, lambda file: None)
    _, said = read(case, file)
    assert f"1: anterior, {(labels() == 1).sum()} voxels" in said and "2: posterior, " in said
    assert names_of(case / "out" / "changed.nii.gz") == {1: ["anterior"], 2: ["posterior"]}


@pytest.mark.parametrize("name", ["seg.dcm", "rtstruct.dcm"])
def test_a_pack_says_which_value_a_name_has(case, name, caplog):
    def renamed(file):
        for one, label in zip(
            file.get("SegmentSequence") or file.StructureSetROISequence, ("BODY", "Liver"), strict=True
        ):
            setattr(one, "SegmentLabel" if "SegmentLabel" in one else "ROIName", label)

    file = changed(case, name, renamed)
    found, said = read(case, file, organ="liver")
    np.testing.assert_array_equal(found, labels() == 2)
    assert "1: liver, " in said
    assert "the organ pack liver does not know them: BODY" in caplog.text
    with pytest.raises(ValueError, match=r"knows none of its parts \(BODY, Liver\)"):
        dicom(str(case / "series"), file, str(case / "new"), "brain")


def test_regions_and_segments_that_overlap_are_named(case, caplog):
    def doubled(file):
        file.ROIContourSequence[1].ContourSequence = file.ROIContourSequence[0].ContourSequence

    found, _ = read(case, changed(case, "rtstruct.dcm", doubled))
    assert set(np.unique(found)) == {0, 2}
    assert f"anterior and posterior share {(labels() == 1).sum()} voxels: the latter has them" in caplog.text

    def twice(file):
        frames = file.pixel_array.copy()
        frames[-1] = frames[2]  # of the other segment, in the same slice
        file.PixelData = np.packbits(frames.reshape(-1) > 0, bitorder="little").tobytes()

    with pytest.raises(ValueError, match="anterior and posterior overlap"):
        dicom(str(case / "series"), changed(case, "seg.dcm", twice), str(case / "new"))


@pytest.mark.parametrize(
    "name, element",
    [
        ("rtstruct.dcm", "StructureSetROISequence"),
        ("rtstruct.dcm", "ROIContourSequence"),
        ("seg.dcm", "SegmentSequence"),
        ("seg.dcm", "SegmentationType"),
        ("seg.dcm", "SharedFunctionalGroupsSequence"),
        ("seg.dcm", "PerFrameFunctionalGroupsSequence"),
        ("seg.dcm", "PixelData"),
    ],
)
def test_an_incomplete_file_is_named_with_what_it_lacks(case, name, element):
    file = changed(case, name, lambda file: delattr(file, element))
    with pytest.raises(ValueError, match=rf"changed\.dcm .*{'ixel' if element == 'PixelData' else element}"):
        dicom(str(case / "series"), file, str(case / "out"))


def test_other_incomplete_files_are_named(case):
    def cut(file):
        file.PixelData = file.PixelData[:-8]

    def short(file):
        file.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2"]

    def no_groups(file):
        file.SharedFunctionalGroupsSequence = []

    for name, change in (("seg.dcm", cut), ("seg.dcm", no_groups), ("rtstruct.dcm", short)):
        with pytest.raises(ValueError, match=r"changed\.dcm (cannot be read as|lacks)"):
            dicom(str(case / "series"), changed(case, name, change), str(case / "out"))
    assert not (case / "out").exists()
