"""NRRD volumes in random directions and several spaces."""

import numpy as np
import pytest
from monai.data import NrrdReader

from scripts.data.nrrd_file import read_nrrd
from tests.helpers.publishers import LPS, frame_lps, marked, write_nrrd


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "LAS"])
@pytest.mark.parametrize("seed, spacing_mm", [(0, (0.7, 0.7, 1.25)), (1, (0.6, 0.9, 2.0)), (2, (1, 1, 1))])
def test_marked_voxel_stands_in_its_place(tmp_path, seed, spacing_mm, space):
    affine_lps = frame_lps(seed, spacing_mm)
    write_nrrd(tmp_path / "a.nrrd", marked().astype(np.int16), affine_lps, space)
    values, affine = read_nrrd(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(values, marked())
    np.testing.assert_allclose(affine @ (7, 1, 3, 1), LPS @ affine_lps @ (7, 1, 3, 1), atol=1e-6)


def test_agrees_with_monai(tmp_path):
    write_nrrd(tmp_path / "a.nrrd", marked().astype(np.int16), frame_lps(4, (0.6, 0.9, 2.0)))
    reader = NrrdReader()
    theirs, meta = reader.get_data(reader.read(str(tmp_path / "a.nrrd")))
    values, affine = read_nrrd(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(values, theirs)
    np.testing.assert_allclose(affine, meta["affine"], atol=1e-6)


def test_a_file_without_a_place_is_refused(tmp_path):
    write_nrrd(tmp_path / "a.nrrd", marked().astype(np.int16), frame_lps(0, (1, 1, 1)))
    content = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "b.nrrd").write_bytes(content.replace(b"space: left-posterior-superior", b"space: scanner-xyz"))
    with pytest.raises(ValueError, match="b.nrrd does not say where.*scanner-xyz"):
        read_nrrd(tmp_path / "b.nrrd")
    (tmp_path / "c.nrrd").write_bytes(b"not a NRRD")
    with pytest.raises(ValueError, match="c.nrrd cannot be read"):
        read_nrrd(tmp_path / "c.nrrd")
    (tmp_path / "d.nrrd").write_bytes(content[: len(content) - 200])
    with pytest.raises(ValueError, match="d.nrrd cannot be read"):
        read_nrrd(tmp_path / "d.nrrd")
