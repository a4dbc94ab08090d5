"""SEG and RTSTRUCT of made-up series: what other readers find in them, and what comes back of a mask."""

import shutil
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from matplotlib.path import Path as MatplotlibPath
from nibabel.orientations import apply_orientation, inv_ornt_aff
from pydicom.sr.codedict import codes

from scripts.cases.read import read_labels
from scripts.dicom import job
from scripts.dicom.job import dicom
from scripts.dicom.series import Series
from scripts.organ.pack import OrganPack, known_organs
from scripts.organ.palette import structure_colours
from tests.helpers.drawn_series import SHAPE, affine_of, labels, write_case
from tests.helpers.series import write_host_series


@pytest.fixture(params=["straight", "oblique"])
def case(request, tmp_path) -> Path:
    """A folder with a series and its mask."""
    return write_case(tmp_path, request.param)


def written(case: Path, mask: str = "mask.nii.gz", **options) -> tuple[Path, Path]:
    """Write SEG and RTSTRUCT of a mask."""
    said = dicom(str(case / "series"), str(case / mask), str(case / "out"), **options)
    assert said.count("read back with 0 of") == 2
    name = mask.removesuffix(".nii.gz")
    return case / "out" / f"{name}_seg.dcm", case / "out" / f"{name}_rtstruct.dcm"


def slices_of(case: Path) -> dict[str, pydicom.Dataset]:
    return {str(s.SOPInstanceUID): s for s in Series.open(case / "series").slices}


@pytest.mark.parametrize("turn", ["as_it_is", "flipped", "other_axes"])
def test_a_mask_comes_back_voxel_by_voxel_whatever_the_order_of_its_axes(case, turn):
    mask = nib.load(case / "mask.nii.gz")
    axes = {"as_it_is": [(0, 1), (1, 1), (2, 1)], "flipped": [(0, -1), (1, 1), (2, -1)]}
    ornt = np.array(axes.get(turn, [(2, 1), (0, -1), (1, -1)]), float)
    values = apply_orientation(np.asarray(mask.dataobj), ornt)
    turned = nib.Nifti1Image(values, mask.affine @ inv_ornt_aff(ornt, mask.shape))
    nib.save(turned, case / "turned.nii.gz")
    for file in written(case, "turned.nii.gz"):
        dicom(str(case / "series"), str(file), str(case / "back"))
        back, affine = read_labels(case / "back" / f"{file.stem}.nii.gz")
        np.testing.assert_array_equal(back, labels())
        np.testing.assert_allclose(affine, mask.affine, atol=1e-4)


def test_slices_of_a_tilted_gantry_keep_their_shear(tmp_path):
    affine = affine_of("straight")
    affine[1, 2] += 0.9
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), affine), tmp_path / "image.nii.gz")
    write_host_series(tmp_path / "series", tmp_path / "image.nii.gz", "CT")
    nib.save(nib.Nifti1Image(labels(), affine), tmp_path / "mask.nii.gz")
    for file in written(tmp_path):
        dicom(str(tmp_path / "series"), str(file), str(tmp_path / "back"))
        back = nib.load(tmp_path / "back" / f"{file.stem}.nii.gz")
        np.testing.assert_array_equal(np.asarray(back.dataobj), labels())
        np.testing.assert_allclose(back.affine, affine, atol=1e-4)


def test_highdicom_finds_the_mask_in_the_seg(case):
    seg = highdicom.seg.segread(written(case, organ="hippocampus")[0])
    volume = seg.get_volume(combine_segments=True)
    reference = highdicom.VolumeGeometry(
        np.diag([-1.0, -1, 1, 1]) @ affine_of_case(case) @ np.eye(4)[[2, 1, 0, 3]], SHAPE[::-1], "PATIENT"
    )
    there = volume.match_geometry(reference, tol=1e-3)
    np.testing.assert_array_equal(there.array.transpose(2, 1, 0), labels())


def affine_of_case(case: Path) -> np.ndarray:
    return nib.load(case / "mask.nii.gz").affine


def test_simpleitk_finds_each_segment_where_the_mask_has_it(case):
    seg = pydicom.dcmread(written(case)[0])
    image = sitk.ReadImage(str(case / "out" / "mask_seg.dcm"))
    frames = sitk.GetArrayFromImage(image)
    found = np.zeros(SHAPE, np.uint8)
    to_index = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ affine_of_case(case))
    for frame, own in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        place = to_index @ (*map(float, own.PlanePositionSequence[0].ImagePositionPatient), 1.0)
        number = own.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[:, :, round(place[2])][frame.T != 0] = number
    np.testing.assert_array_equal(found, labels())


def test_the_seg_refers_to_the_series_and_names_its_segments(case):
    seg = pydicom.dcmread(written(case, organ="hippocampus")[0])
    slices = slices_of(case)
    first = next(iter(slices.values()))
    assert seg.FrameOfReferenceUID == first.FrameOfReferenceUID and seg.StudyInstanceUID == first.StudyInstanceUID
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedInstanceSequence} == set(slices)
    for own in seg.PerFrameFunctionalGroupsSequence:
        source = slices[str(own.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)]
        assert own.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(source.ImagePositionPatient, abs=1e-4)
    pack = OrganPack.load("hippocampus")
    for segment, colour in zip(seg.SegmentSequence, structure_colours(2), strict=True):
        assert segment.SegmentLabel == pack.labels[int(segment.SegmentNumber)]
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Hippocampus"
        expected = highdicom.color.CIELabColor.from_rgb(*colour).value
        assert tuple(segment.RecommendedDisplayCIELabValue) == tuple(expected)
    assert "not for diagnosis" in seg.SeriesDescription and seg.PatientID == "made-up"


def test_the_rtstruct_refers_to_the_slices_in_which_its_contours_lie(case):
    file = pydicom.dcmread(written(case, organ="hippocampus")[1])
    slices = slices_of(case)
    first = next(iter(slices.values()))
    (frame,) = file.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == first.FrameOfReferenceUID == file.FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert {str(one.ReferencedSOPInstanceUID) for one in series.ContourImageSequence} == set(slices)
    assert [roi.ROIName for roi in file.StructureSetROISequence] == ["anterior", "posterior"]
    assert [list(roi.ROIDisplayColor) for roi in file.ROIContourSequence] == [list(c) for c in structure_colours(2)]
    for roi in file.ROIContourSequence:
        for contour in roi.ContourSequence:
            source = slices[str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)]
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            assert len(points) == contour.NumberOfContourPoints
            along, down = np.reshape(np.array(source.ImageOrientationPatient, float), (2, 3))
            height = (points - np.array(source.ImagePositionPatient, float)) @ np.cross(along, down)
            np.testing.assert_allclose(height, 0.0, atol=1e-3)


def test_another_program_fills_the_contours_to_the_mask(case):
    file = pydicom.dcmread(written(case)[1])
    to_index = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ affine_of_case(case))
    centres = np.stack(np.meshgrid(*map(np.arange, SHAPE[:2]), indexing="ij"), -1).reshape(-1, 2)
    found = np.zeros(SHAPE, np.uint8)
    for roi in file.ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3)) @ to_index[:3, :3].T + to_index[:3, 3]
            inside = MatplotlibPath(points[:, :2], closed=False).contains_points(centres).reshape(SHAPE[:2])
            found[:, :, round(points[0, 2])][inside] = roi.ReferencedROINumber
    np.testing.assert_array_equal(found, labels())


def test_a_series_becomes_an_image_where_the_scanner_put_it(case):
    assert "16 x 11 x 8 voxels" in dicom(str(case / "series"), output_dir=str(case / "out"))
    image, expected = nib.load(case / "out" / "series.nii.gz"), nib.load(case / "image.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-4)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(case / "series")))
    theirs = reader.Execute()
    own = sitk.ReadImage(str(case / "out" / "series.nii.gz"))
    for index in ((0, 0, 0), (15, 10, 7), (3, 1, 5)):
        point = theirs.TransformIndexToPhysicalPoint(index)
        assert own[own.TransformPhysicalPointToIndex(point)] == theirs[index]


def test_labels_need_not_be_counted_through(case):
    values = labels()
    values[values == 2] = 7
    nib.save(nib.Nifti1Image(values, affine_of_case(case)), case / "gaps.nii.gz")
    for file in written(case, "gaps.nii.gz"):
        dicom(str(case / "series"), str(file), str(case / "back"))
        np.testing.assert_array_equal(read_labels(case / "back" / f"{file.stem}.nii.gz")[0], values)


def test_sides_are_coded_beside_the_organ(case):
    seg = pydicom.dcmread(written(case, organ="brain")[0])
    right, left = (segment.SegmentedPropertyTypeCodeSequence[0] for segment in seg.SegmentSequence)
    assert right.CodeMeaning == left.CodeMeaning == "Hippocampus"
    assert right.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
    assert left.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"


def test_a_mask_on_another_grid_is_refused(case):
    affine = affine_of_case(case)
    nib.save(nib.Nifti1Image(labels()[:-1], affine), case / "smaller.nii.gz")
    with pytest.raises(ValueError, match="15 x 11 x 8 voxels, the series 16 x 11 x 8"):
        dicom(str(case / "series"), str(case / "smaller.nii.gz"), str(case / "out"))
    moved = affine.copy()
    moved[:3, 3] += 0.4
    nib.save(nib.Nifti1Image(labels(), moved), case / "moved.nii.gz")
    with pytest.raises(ValueError, match="up to 0.693 mm from the series' voxels"):
        dicom(str(case / "series"), str(case / "moved.nii.gz"), str(case / "out"))
    assert not list((case / "out").glob("*"))


def test_a_series_without_a_slice_or_a_frame_is_refused(case):
    shutil.copytree(case / "series", case / "gap")
    middle = Series.open(case / "gap").slices[3].filename
    Path(middle).unlink()
    with pytest.raises(ValueError, match="slices are missing"):
        dicom(str(case / "gap"), str(case / "mask.nii.gz"), str(case / "out"))
    for file in (case / "series").iterdir():
        slice_ = pydicom.dcmread(file)
        del slice_.FrameOfReferenceUID
        slice_.save_as(file)
    with pytest.raises(ValueError, match="has no FrameOfReferenceUID"):
        dicom(str(case / "series"), str(case / "mask.nii.gz"), str(case / "out"))


def test_files_of_another_series_are_refused(case):
    files = written(case)
    for file in (case / "series").iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.FrameOfReferenceUID = "1.2.3"
        slice_.save_as(file)
    for file in files:
        with pytest.raises(ValueError, match="another frame of reference"):
            dicom(str(case / "series"), str(file), str(case / "out"))


def test_what_is_no_mask_is_refused(case):
    slice_ = next((case / "series").iterdir())
    with pytest.raises(ValueError, match="modality CT, not SEG or RTSTRUCT"):
        dicom(str(case / "series"), str(slice_), str(case / "out"))
    (case / "text.dcm").write_text("nothing")
    with pytest.raises(ValueError, match="no label map and no DICOM file"):
        dicom(str(case / "series"), str(case / "text.dcm"), str(case / "out"))
    nib.save(nib.Nifti1Image(0 * labels(), affine_of_case(case)), case / "empty.nii.gz")
    with pytest.raises(ValueError, match="holds no label"):
        dicom(str(case / "series"), str(case / "empty.nii.gz"), str(case / "out"))


def test_series_without_names_are_taken(case):
    for file in (case / "series").iterdir():
        slice_ = pydicom.dcmread(file)
        for name in ("PatientName", "PatientBirthDate", "StudyDate", "AccessionNumber", "ReferringPhysicianName"):
            delattr(slice_, name)
        slice_.save_as(file)
    for file in written(case):
        assert pydicom.dcmread(file).PatientBirthDate in ("", None)


def test_every_label_of_the_packs_has_a_code_and_the_deploy_example_has_the_same(bundle_root):
    settings = yaml.safe_load((bundle_root / "docs" / "examples" / "deploy" / "app.yaml").read_text())
    told = {}
    for organ in known_organs():
        pack = OrganPack.load(organ)
        assert pack.codes.keys() == pack.labels.keys(), organ
        assert all(hasattr(codes.SCT, keyword) for keyword in pack.codes.values())
        told |= {name: pack.codes[value] for value, name in pack.labels.items()}
    assert settings["segments"].items() <= told.items()


def test_codes_are_the_packs_and_where_it_has_none_it_is_said(case, tmp_path, caplog):
    (tmp_path / "heart").mkdir()
    text = "name: heart\nlabels: {1: ventricle_left, 2: anterior}\nstructures: [{name: ventricle_left, labels: [1]}]\n"
    (tmp_path / "heart" / "organ.yaml").write_text(text + "codes: {1: LeftVentricle}\n")
    seg = pydicom.dcmread(written(case, organ=str(tmp_path / "heart"))[0])
    meanings = [one.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for one in seg.SegmentSequence]
    assert meanings == ["Left ventricle", "Organ"]
    assert "coded as an organ, of no kind: anterior" in caplog.text
    shutil.rmtree(case / "out")
    (tmp_path / "heart" / "organ.yaml").write_text(text + "codes: {1: LeftVentrikel}\n")
    with pytest.raises(ValueError, match="LeftVentrikel, the code of ventricle_left, is no keyword"):
        written(case, organ=str(tmp_path / "heart"))


def test_a_tumour_is_no_anatomical_structure(case):
    seg = pydicom.dcmread(written(case, organ="kidneys")[0])
    categories = [one.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning for one in seg.SegmentSequence]
    assert categories == ["Anatomical Structure", "Morphologically Abnormal Structure"]


def test_what_the_files_are_not_for_is_said_however_long_a_name_is(case):
    name = "a" * 70
    shutil.copy(case / "mask.nii.gz", case / f"{name}.nii.gz")
    for file in written(case, f"{name}.nii.gz"):
        said = pydicom.dcmread(file).SeriesDescription
        assert len(said) == 64 and said.endswith("aaa, refined; research only, not for diagnosis")


def test_nothing_that_is_there_is_replaced(case):
    before = {file: file.read_bytes() for file in written(case)}
    (case / "other").mkdir()
    shutil.copy(case / "mask.nii.gz", case / "other")
    with pytest.raises(ValueError, match=r"mask_seg\.dcm is there already"):
        dicom(str(case / "series"), str(case / "other" / "mask.nii.gz"), str(case / "out"))
    assert all(file.read_bytes() == content for file, content in before.items())
    for number in ("1", "2"):  # files without an ending, as archives give them
        shutil.copy(case / "out" / "mask_seg.dcm", case / f"scan.{number}")
        dicom(str(case / "series"), str(case / f"scan.{number}"), str(case / "back"))
    assert sorted(file.name for file in (case / "back").iterdir()) == ["scan.1.nii.gz", "scan.2.nii.gz"]


def test_a_file_that_gives_the_mask_not_back_is_not_left(case, monkeypatch):
    monkeypatch.setattr(job, "read_mask", lambda path, series: (1 - labels(), {}))
    with pytest.raises(ValueError, match=r"mask_seg\.dcm would give \d+ voxels back that differ"):
        dicom(str(case / "series"), str(case / "mask.nii.gz"), str(case / "out"))
    assert not list((case / "out").iterdir())


def test_a_mask_is_read_back_from_any_series_that_is_taken(tmp_path):
    affine = np.diag([-0.7, -0.7, 6.0, 1.0])
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), affine), tmp_path / "image.nii.gz")
    write_host_series(tmp_path / "series", tmp_path / "image.nii.gz", "CT")
    moved = Path(Series.open(tmp_path / "series").slices[3].filename)
    slice_ = pydicom.dcmread(moved)
    slice_.ImagePositionPatient[2] += 0.55
    slice_.save_as(moved)
    nib.save(nib.Nifti1Image(labels(), affine), tmp_path / "mask.nii.gz")
    written(tmp_path)
    slice_.ImagePositionPatient[2] -= 0.55
    slice_.ImagePositionPatient[0] += 0.55  # sideways that is most of a voxel
    slice_.save_as(moved)
    with pytest.raises(ValueError, match="unevenly spaced"):
        Series.open(tmp_path / "series")
