"""MetaImage volumes in random directions, against SimpleITK."""

import zlib
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk

from scripts.cases import errors, read, write
from scripts.cases.meta_image import data_file, read_meta_image
from tests.helpers.publishers import LPS, frame_lps, marked, write_meta_image
from tests.helpers.volumes import blocks

FRAMES = [(0, (1, 1, 1)), (1, (0.7, 0.7, 3.0)), (2, (0.6, 0.9, 2.0)), (3, (-0.8, 1.5, 5.0))]  # the last one mirrored
ENDINGS = [("a.mha", False), ("a.mha", True), ("a.mhd", False), ("a.mhd", True)]


@pytest.mark.parametrize(("seed", "spacing_mm"), FRAMES)
@pytest.mark.parametrize(("name", "packed"), ENDINGS)
def test_marked_voxel_stands_where_itk_puts_it(tmp_path, seed, spacing_mm, name, packed):
    file = write_meta_image(tmp_path / name, marked().astype(np.int16), frame_lps(seed, spacing_mm), packed)
    values, affine = read_meta_image(file)
    np.testing.assert_array_equal(values, marked())
    point_lps = sitk.ReadImage(str(file)).TransformIndexToPhysicalPoint((7, 1, 3))
    np.testing.assert_allclose(affine @ (7, 1, 3, 1), LPS @ [*point_lps, 1], atol=1e-4)
    np.testing.assert_allclose(affine, LPS @ frame_lps(seed, spacing_mm), atol=1e-4)
    image = read.read_volume(file)
    np.testing.assert_array_equal(image[0], marked())
    np.testing.assert_allclose(image.affine, affine)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize(("name", "packed"), ENDINGS)
def test_a_label_map_comes_back_with_its_header_and_type(tmp_path, dtype, name, packed):
    file = write_meta_image(tmp_path / "in" / name, blocks(np.dtype(dtype)), frame_lps(2, (0.6, 0.9, 2.0)), packed)
    changed = read.read_labels(file)[0].copy()
    changed[10:, 5, 5] = 1
    for folder in ("b", "c"):
        write.write_label_map(tmp_path / folder / name, changed, file)
    names = sorted(path.name for path in (tmp_path / "in").iterdir())
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == names
    for one in names:
        assert (tmp_path / "b" / one).read_bytes() == (tmp_path / "c" / one).read_bytes()
    before, after = sitk.ReadImage(str(file)), sitk.ReadImage(str(tmp_path / "b" / name))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after).T, changed)
    assert after.GetPixelID() == before.GetPixelID()
    for what in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(after, what)() == getattr(before, what)()
    write.write_label_map(tmp_path / "same" / name, blocks(np.int32), file)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "same" / name))).T, blocks())


def test_every_line_of_a_header_comes_back(tmp_path):
    file = write_meta_image(tmp_path / "a.mha", blocks(), frame_lps(1, (1, 1, 2)))
    own = file.read_bytes().replace(b"ElementType", b"Modality = MET_MOD_CT\nMy note = a = b\nElementType")
    file.write_bytes(own)
    write.write_label_map(tmp_path / "b.mha", blocks(), file)
    assert (tmp_path / "b.mha").read_bytes() == own


@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
def test_copies_keep_every_byte_of_all_files(tmp_path, name):
    file = write_meta_image(tmp_path / "in" / name, blocks(), frame_lps(1, (1, 1, 2)), packed=True)
    write.copy_as_given(file, tmp_path / "out" / name)
    for path in (tmp_path / "in").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    write.copy_volume(file, tmp_path / "a.nii.gz")
    labels, affine = read.read_labels(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(labels, blocks())
    np.testing.assert_allclose(affine, read.read_labels(file)[1], atol=1e-4)


def test_what_other_programs_write_is_read(tmp_path):
    """Big-endian voxels, gzip's wrapping, older names of fields, a header of the data, and what is not said."""
    values = marked().astype(">i2")
    head = b"ObjectType = Image\nNDims = 3\nDimSize = 9 7 5\nElementType = MET_SHORT\nElementByteOrderMSB = True\n"
    gzip = zlib.compressobj(wbits=31)
    packed = gzip.compress(values.tobytes("F")) + gzip.flush()
    path = tmp_path / "a.mha"
    path.write_bytes(head + b"CompressedData = True\nElementDataFile = LOCAL\n" + packed)
    found, affine = read_meta_image(path)
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(affine, LPS)
    (tmp_path / "a.img").write_bytes(b"a header" + values.tobytes("F"))
    for size in (b"-1", b"8"):
        place = b"Position = 1 2 3\nElementSize = 1 2 3\nRotation = 0 1 0 -1 0 0 0 0 1\nHeaderSize = " + size + b"\n"
        (tmp_path / "a.mhd").write_bytes(head + place + b"ElementDataFile = a.img")
        found, affine = read_meta_image(tmp_path / "a.mhd")
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(affine @ (1, 0, 0, 1), [-1, -3, 3, 1])  # the first axis leads back, LPS's y
    assert data_file(tmp_path / "a.mhd") == tmp_path / "a.img" and data_file(path) is None


def replaced(old, new, content):
    return content.replace(old, new)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: b"", "names no data"),
        (lambda content: b"text", "names no data"),
        (lambda content: content[:-40], "truncated"),
        (partial(replaced, b"12 10 8", b"12 10 80"), "truncated"),
        (partial(replaced, b"12 10 8", b"99999 99999 99999"), "truncated"),
        (partial(replaced, b"12 10 8", b"12 -10 8"), "shape"),
        (partial(replaced, b"12 10 8", b"12 80"), "shape"),
        (partial(replaced, b"12 10 8", b"twelve"), "invalid literal"),
        (partial(replaced, b"MET_UCHAR", b"MET_STRING"), "type MET_STRING"),
        (partial(replaced, b"ElementType", b"ElementNumberOfChannels = 3\nElementType"), "one value a voxel"),
        (partial(replaced, b"BinaryData = True", b"BinaryData = False"), "written as text"),
        (partial(replaced, b"ElementSpacing = ", b"ElementSpacing = nan "), "reshape"),
        (partial(replaced, b"LOCAL", b"../a.raw"), "not one file beside it"),
        (partial(replaced, b"LOCAL", b"/etc/hostname"), "not one file beside it"),
        (partial(replaced, b"LOCAL", b"slice%03d.raw 1 8 1"), "not one file beside it"),
        (partial(replaced, b"LOCAL", b"LIST"), "not one file beside it"),
        (partial(replaced, b"LOCAL", b"nowhere.raw"), "No such file"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_file_is_named_with_the_remedy(tmp_path, change, reason, packed):
    content = write_meta_image(tmp_path / "a.mha", blocks(), frame_lps(0, (1, 1, 1)), packed).read_bytes()
    (tmp_path / "b.mha").write_bytes(change(content))
    with pytest.raises(errors.UnreadableCase, match=rf"b.mha cannot be read as MetaImage \(.*{reason}.*\): copy"):
        read.read_labels(tmp_path / "b.mha")
