"""DICOM series in random directions: the marked voxel lies in the world where the standard says."""

import nibabel.nicom.dicomwrappers as wrappers
import numpy as np
import pytest
from monai.data import PydicomReader

from scripts.dicom.series import read_series
from tests.helpers.publishers import LPS, frame_lps, marked, write_series

FRAMES = [(0, (0.8, 0.8, 2.5)), (1, (0.7, 0.9, 1.5)), (2, (1.1, 0.6, 3.0)), (3, (0.5, 0.5, 0.5))]


@pytest.mark.parametrize("seed, spacing_mm", FRAMES)
def test_marked_voxel_stands_in_its_place(tmp_path, seed, spacing_mm):
    affine_lps = frame_lps(seed, spacing_mm)
    write_series(tmp_path / "study" / "series", marked(), affine_lps, seed)
    (tmp_path / "LICENSE").write_text("no DICOM")
    values, affine = read_series(tmp_path)
    np.testing.assert_array_equal(values, marked())
    assert values.dtype == np.int16
    right, anterior, superior = (LPS @ affine_lps @ (7, 1, 3, 1))[:3]
    found = affine @ (*np.argwhere(values == 1500)[0], 1)
    np.testing.assert_allclose(found[:3], (right, anterior, superior), atol=1e-3)
    left, posterior, _ = (affine_lps @ (7, 1, 3, 1))[:3]
    np.testing.assert_allclose(found[:2], (-left, -posterior), atol=1e-3)


@pytest.mark.parametrize("seed, spacing_mm", FRAMES)
def test_agrees_with_nibabel_slice_by_slice(tmp_path, seed, spacing_mm):
    write_series(tmp_path, marked(), frame_lps(seed, spacing_mm), seed)
    values, affine = read_series(tmp_path)
    for file in tmp_path.iterdir():
        one = wrappers.wrapper_from_file(file)  # its affine maps (row, column, slice) to LPS
        plane = one.get_data()
        row, column = 6, 2
        world = LPS @ one.affine @ (row, column, 0, 1)
        index = np.rint(np.linalg.inv(affine) @ world).astype(int)[:3]
        np.testing.assert_allclose((affine @ (*index, 1))[:3], world[:3], atol=1e-3)
        assert values[tuple(index)] == plane[row, column]


def test_agrees_with_monai_on_a_straight_series(tmp_path):
    write_series(tmp_path, marked(), frame_lps(0, (0.8, 0.9, 2.5)))
    values, affine = read_series(tmp_path)
    reader = PydicomReader()
    theirs, meta = reader.get_data(reader.read(str(tmp_path)))
    index = np.argwhere(theirs == 1500)[0]
    np.testing.assert_allclose(meta["affine"] @ (*index, 1), affine @ (7, 1, 3, 1), atol=1e-3)
    assert theirs.shape == values.shape


def test_what_is_no_series_is_refused(tmp_path):
    affine = frame_lps(1, (0.7, 0.9, 1.5))
    with pytest.raises(ValueError, match="0 DICOM slices"):
        read_series(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        read_series(tmp_path / "nothing")
    write_series(tmp_path / "frames", marked()[:, :, :1], affine, NumberOfFrames=7)
    with pytest.raises(ValueError, match=r"1 DICOM slices, not a series: .* is multi-frame, which is not read"):
        read_series(tmp_path / "frames")
    write_series(tmp_path / "place", marked(), affine, ImagePositionPatient=[0, 0, 0])
    with pytest.raises(ValueError, match="do not lie one behind the other"):
        read_series(tmp_path / "place")
    write_series(tmp_path / "gap", marked(), affine)
    next(file for file in (tmp_path / "gap").iterdir() if _position(file, affine) == 2).unlink()
    with pytest.raises(ValueError, match="slices are missing"):
        read_series(tmp_path / "gap")
    write_series(tmp_path / "two", marked(), affine)
    write_series(tmp_path / "two" / "other", marked(), affine, SeriesInstanceUID="1.2.3")
    with pytest.raises(ValueError, match="several DICOM series"):
        read_series(tmp_path / "two")
    write_series(tmp_path / "short", marked(), affine, PixelData=b"\0\0")
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_series(tmp_path / "short")


def _position(file, affine_lps):
    place = wrappers.wrapper_from_file(file).image_position
    return round(float((np.linalg.inv(affine_lps) @ (*place, 1))[2]))
