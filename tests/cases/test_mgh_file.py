"""Volumes in FreeSurfer's format, on oblique and mirrored grids."""

import nibabel as nib
import numpy as np
import pytest

from scripts.cases import errors, read, write
from scripts.cases.mgh_file import read_mgh
from tests.helpers.publishers import marked
from tests.helpers.volumes import AFFINES, blocks


def write_mgh(path, values, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.MGHImage(values, affine), path)
    return path


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("frame", AFFINES)
def test_marked_voxel_stands_where_nibabel_puts_it(tmp_path, name, frame):
    file = write_mgh(tmp_path / name, marked().astype(np.int16), AFFINES[frame])
    values, affine = read_mgh(file)
    np.testing.assert_array_equal(values, marked())
    assert values.dtype == np.int16 and values.dtype.isnative
    np.testing.assert_allclose(affine, AFFINES[frame], atol=1e-4)
    image = read.read_volume(file)
    np.testing.assert_array_equal(image[0], marked())
    np.testing.assert_allclose(image.affine, affine)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_a_label_map_comes_back_with_its_header_and_type(tmp_path, dtype):
    file = write_mgh(tmp_path / "a.mgz", blocks(np.dtype(dtype)), AFFINES["oblique"])
    changed = read.read_labels(file)[0].copy()
    changed[10:, 5, 5] = 1
    write.write_label_map(tmp_path / "b.mgz", changed, file)
    before, after = nib.load(file), nib.load(tmp_path / "b.mgz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), changed)
    assert after.get_data_dtype() == before.get_data_dtype()
    assert after.header["Mdc"].tobytes() == before.header["Mdc"].tobytes()
    np.testing.assert_array_equal(after.affine, before.affine)


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 400])
def test_what_is_no_volume_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "a.mgh").write_bytes(content)
    with pytest.raises(errors.UnreadableCase, match="a.mgh cannot be read as MGH .*copy or export it again"):
        read.open_volume(tmp_path / "a.mgh")


def test_a_truncated_file_is_named_and_layers_are_refused(tmp_path):
    file = write_mgh(tmp_path / "a.mgz", blocks(), AFFINES["flipped"])
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(errors.UnreadableCase, match="cannot be read as MGH"):
        read.read_labels(file)
    several = write_mgh(tmp_path / "b.mgz", np.stack([blocks(), blocks()], -1), AFFINES["flipped"])
    with pytest.raises(
        errors.UnreadableCase, match=r"it has the shape \(\d+, \d+, \d+, 2\), not that of one 3D volume"
    ):
        read.read_labels(several)
    plain = write_mgh(tmp_path / "c.mgh", blocks(), AFFINES["flipped"])
    head = bytearray(plain.read_bytes())
    head[4:16] = np.array([9999, 9999, 9999], ">i4").tobytes()
    plain.write_bytes(bytes(head))
    with pytest.raises(errors.UnreadableCase, match="it is truncated"):
        read.read_labels(plain)
