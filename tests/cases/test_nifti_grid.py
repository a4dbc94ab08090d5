"""One affine for every reader: two forms that disagree, units, and quaternions that are too long."""

import logging
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from scripts.cases import errors, read, write
from scripts.unet.images import ReadImaged
from tests.helpers.volumes import AFFINES, OBLIQUE, blocks, save

EVERY = pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)


def affines_read(path):
    """Return what each reader says of a file's place: image, mask, probability and array."""
    image = ReadImaged("image")({"image": str(path)})["image"]
    tensors = [image, read.read_label_map(path), read.read_volume(path)]
    return [np.asarray(tensor.affine) for tensor in tensors] + [read.read_array(path)[1]]


def with_forms(path, sform, qform):
    image = nib.Nifti1Image(blocks(), sform)
    image.set_sform(sform, 1)
    image.set_qform(qform, 1)
    nib.save(image, path)
    return path


@EVERY
def test_every_reader_takes_the_sform_where_the_forms_disagree(tmp_path, affine, caplog):
    path = with_forms(tmp_path / "a.nii.gz", affine, affine @ np.diag([1, 1, 1.33, 1]))
    with caplog.at_level(logging.WARNING):
        for found in affines_read(path):
            np.testing.assert_allclose(found, affine, atol=1e-4)
    assert "a.nii.gz: its sform and its qform" in caplog.text
    assert len(read.header_warnings(path)) == 1 and "the sform counts" in read.header_warnings(path)[0]


@EVERY
def test_spacing_that_is_not_the_sforms_is_told(tmp_path, affine):
    image = nib.load(save(tmp_path / "a.nii", blocks(), affine, qform=0))
    header = image.header.copy()
    header["pixdim"][3] *= 1.5
    path = tmp_path / "b.nii"
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[76:108] = header["pixdim"].astype("<f4").tobytes()
    path.write_bytes(content)
    assert "sform and its pixdim" in read.header_warnings(path)[0]
    for found in affines_read(path):
        np.testing.assert_allclose(found, affine, atol=1e-4)


@EVERY
@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (4, 0), (0, 3)])
def test_forms_that_agree_are_not_spoken_of(tmp_path, affine, sform, qform):
    assert read.header_warnings(save(tmp_path / "a.nii.gz", blocks(), affine, sform, qform)) == []
    assert read.header_warnings(tmp_path) == [] and read.header_warnings(tmp_path / "missing.nii.gz") == []


@EVERY
@pytest.mark.parametrize(("unit", "in_mm"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)])
def test_units_are_brought_to_millimetres_and_masks_keep_their_header(tmp_path, affine, unit, in_mm):
    own = affine.copy()
    own[:3] /= in_mm
    image = nib.Nifti1Image(blocks(), own)
    image.header.set_xyzt_units(unit)
    image.set_sform(own, 1)
    image.set_qform(own, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    write.write_label_map(tmp_path / "b.nii.gz", blocks(), tmp_path / "a.nii.gz", "uint8")
    for path in (tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"):
        for found in affines_read(path):
            np.testing.assert_allclose(found, affine, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii.gz").affine, nib.load(tmp_path / "a.nii.gz").affine)


def half_turn(path, factor, sform):
    """Write a volume turned by 180 degrees about an oblique axis, its quaternion longer than 1."""
    axis = np.array([0.6, 0.64, 0.48])
    affine = np.eye(4)
    affine[:3, :3] = (2 * np.outer(axis, axis) - np.eye(3)) @ np.diag([1.0, 1.5, 2.0])
    save(path, blocks(), affine, sform=sform)
    content = bytearray(path.read_bytes())
    content[256:268] = (factor * axis).astype("<f4").tobytes()
    path.write_bytes(content)
    return affine


@pytest.mark.parametrize("sform", [0, 1])
@pytest.mark.parametrize("factor", [1 + 1e-6, 1.0001, 1.004])
def test_a_quaternion_a_rounding_error_too_long_is_brought_to_length_one(tmp_path, factor, sform):
    path = tmp_path / "a.nii"
    affine = half_turn(path, factor, sform)
    for found in affines_read(path):
        np.testing.assert_allclose(found, affine, atol=1e-3)
    assert read.header_warnings(path) == []
    write.write_label_map(tmp_path / "b.nii.gz", blocks(), path)
    np.testing.assert_allclose(nib.load(tmp_path / "b.nii.gz").affine, affine, atol=1e-3)


def test_a_quaternion_that_is_none_is_refused_with_the_remedy(tmp_path):
    half_turn(tmp_path / "a.nii", 1.2, 0)
    with pytest.raises(errors.UnreadableCase, match="a.nii.*no rotation.*repair the header"):
        read.read_label_map(tmp_path / "a.nii")


def test_a_part_of_a_grid_in_metres_keeps_its_header(tmp_path):
    own = OBLIQUE.copy()
    own[:3] /= 1000
    image = nib.Nifti1Image(blocks(), own)
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii.gz")
    box = (slice(2, 9), slice(1, 10), slice(0, 5))
    write.write_label_map(tmp_path / "b.nii.gz", blocks()[box], tmp_path / "a.nii.gz", box=box)
    expected = (OBLIQUE @ [2, 1, 0, 1])[:3]
    np.testing.assert_allclose(read.read_labels(tmp_path / "b.nii.gz")[1][:3, 3], expected, atol=1e-3)


@EVERY
@pytest.mark.parametrize(("factor", "shift"), [(1e-6, 0), (1e4, 0), (1, 1e9)])
def test_a_place_that_none_can_have_is_refused_in_a_line_with_file_and_remedy(tmp_path, affine, factor, shift):
    odd = affine @ np.diag([1, factor, 1, 1])
    odd[0, 3] += shift
    path = save(tmp_path / "a.nii.gz", blocks(), odd)
    for reading in (read.read_label_map, read.read_volume, read.read_array, read.read_labels):
        with pytest.raises(errors.UnrefinableCase, match="a.nii.gz: its? .* plausible: repair the header"):
            reading(path)


def with_extension(path, size, code, text):
    """Write a NIfTI file with one header extension, whatever its size says."""
    content = save(path, blocks(), OBLIQUE).read_bytes()
    block = struct.pack("<ii", size, code) + text.ljust(24, b"\0")
    header = bytearray(content[:348])
    header[108:112] = np.float32(352 + len(block)).tobytes()
    path.write_bytes(bytes(header) + b"\1\0\0\0" + block + content[352:])
    return path


@pytest.mark.parametrize("code", [2, 4, 6, 30, 44, -1])
@pytest.mark.parametrize("size", [32, 0, -16, 5, 17, 4096, 2**31 - 1])
def test_a_header_extension_of_a_wrong_size_does_no_harm(tmp_path, code, size):
    path = with_extension(tmp_path / "a.nii", size, code, b"<x/>")
    np.testing.assert_array_equal(read.read_labels(path)[0], blocks())
    np.testing.assert_allclose(read.read_labels(path)[1], OBLIQUE, atol=1e-5)
    write.write_label_map(tmp_path / "b.nii.gz", blocks(), path)
    np.testing.assert_array_equal(read.read_labels(tmp_path / "b.nii.gz")[0], blocks())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_promises_more_than_a_file_can_hold_takes_no_memory(tmp_path, ending):
    path = save(tmp_path / f"a{ending}", blocks())
    content = bytearray(nib.openers.Opener(path).read())
    content[42:48] = np.array([1400, 1400, 1400], "<i2").tobytes()  # dim
    with nib.openers.Opener(path, "wb") as file:
        file.write(bytes(content))
    tracemalloc.start()
    with pytest.raises(errors.UnreadableCase, match=f"a{ending} is truncated or corrupt.*1400"):
        read.read_labels(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize("slope", [1.0, 2.5])
@pytest.mark.parametrize("code, size", [(128, 3), (2304, 4)])
def test_colours_are_refused_with_the_remedy(tmp_path, code, size, slope):
    header = bytearray(save(tmp_path / "a.nii", blocks()).read_bytes()[:352])
    header[70:74] = np.array([code, 8 * size], "<i2").tobytes()  # datatype, bitpix
    header[112:116] = np.float32(slope).tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(header) + bytes(blocks().size * size))
    for reader in (read.read_labels, read.read_volume, read.read_array):
        with pytest.raises(errors.UnreadableCase, match="a.nii holds colours: export it"):
            reader(tmp_path / "a.nii")
