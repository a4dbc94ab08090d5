"""Writing volumes with the header that they came with."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.cases import errors, read, write
from scripts.cases.sources import ReadMaskd
from tests.helpers.volumes import AFFINES, OBLIQUE, blocks, save


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_label_map_comes_back_with_grid_type_and_codes(tmp_path, affine, dtype):
    source = save(tmp_path / "a.nii.gz", blocks(dtype), affine, sform=2, qform=1)
    mask = ReadMaskd()({"pred": str(source)})["pred"]
    assert mask.shape == (1, 12, 10, 8) and mask.dtype == torch.int32
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    labels = mask[0].numpy().copy()
    labels[3, 3, 3] = 2
    write.write_label_map(tmp_path / "b.nii.gz", labels, source)
    before, after = nib.load(source), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), labels)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.get_data_dtype() == before.get_data_dtype() == dtype
    for field in ("sform_code", "qform_code", "pixdim", "xyzt_units", "quatern_b", "srow_x"):
        np.testing.assert_array_equal(after.header[field], before.header[field])


def test_codes_of_a_file_with_only_one_of_the_forms_stay(tmp_path):
    for sform, qform in ((0, 3), (4, 0)):
        affine = AFFINES["flipped"]
        source = save(tmp_path / "a.nii.gz", blocks(), affine, sform, qform)
        write.write_label_map(tmp_path / "b.nii.gz", blocks(), source)
        after = nib.load(tmp_path / "b.nii.gz")
        assert (int(after.header["sform_code"]), int(after.header["qform_code"])) == (sform, qform)
        np.testing.assert_allclose(after.affine, affine, atol=1e-5)


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (4, 0), (0, 3)])
def test_a_part_of_a_grid_lies_where_it_did_with_the_codes_of_the_whole(tmp_path, sform, qform):
    source = save(tmp_path / "a.nii.gz", blocks(), OBLIQUE, sform, qform)
    box = (slice(2, 9), slice(1, 10), slice(0, 5))
    write.write_label_map(tmp_path / "b.nii.gz", blocks()[box], source, box=box)
    whole, part = nib.load(source), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(part.dataobj), blocks()[box])
    np.testing.assert_allclose(part.affine[:3, :3], whole.affine[:3, :3], atol=1e-5)
    np.testing.assert_allclose(part.affine[:3, 3], (whole.affine @ [2, 1, 0, 1])[:3], atol=1e-4)
    assert (int(part.header["sform_code"]), int(part.header["qform_code"])) == (sform, qform)


def test_last_axis_of_one_is_accepted_and_kept(tmp_path):
    source = save(tmp_path / "a.nii.gz", blocks()[..., None])
    assert read.read_label_map(source).shape == (1, 12, 10, 8)
    write.write_label_map(tmp_path / "b.nii.gz", blocks(), source)
    assert nib.load(tmp_path / "b.nii.gz").shape == (12, 10, 8, 1)


def test_masks_of_images_are_uint8(tmp_path):
    source = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32), OBLIQUE)
    write.write_label_map(tmp_path / "b.nii.gz", blocks(np.int64), source, "uint8")
    after = nib.load(tmp_path / "b.nii.gz")
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(after.dataobj), blocks())


def test_what_does_not_fit_is_not_written(tmp_path):
    source = save(tmp_path / "a.nii.gz", blocks())
    with pytest.raises(RuntimeError, match="do not fit"):
        write.write_label_map(tmp_path / "b.nii.gz", blocks()[1:], source)
    with pytest.raises(RuntimeError, match="do not fit the data type"):
        write.write_label_map(tmp_path / "b.nii.gz", blocks(np.int64) * 300, source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz"]


def test_same_labels_give_the_same_bytes(tmp_path):
    source = save(tmp_path / "a.nii.gz", blocks())
    for name in ("b", "c"):
        write.write_label_map(tmp_path / f"{name}.nii.gz", blocks(), source)
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()


def test_copies_keep_every_byte(tmp_path):
    compressed, plain = save(tmp_path / "a.nii.gz", blocks()), save(tmp_path / "b.nii", blocks())
    write.copy_volume(compressed, tmp_path / "c.nii.gz")
    write.copy_volume(plain, tmp_path / "d.nii.gz")
    assert (tmp_path / "c.nii.gz").read_bytes() == compressed.read_bytes()
    assert gzip.decompress((tmp_path / "d.nii.gz").read_bytes()) == plain.read_bytes()


SCALED = {"steps of 1/256": (1 / 256, 0.0, [0, 255, 511]), "steps of 2/255": (2 / 255, -1.0, [127, 255, 382])}


def save_scaled(path, stored, affine, slope, inter):
    """Write whole numbers that the header scales."""
    image = nib.Nifti1Image(stored, affine)
    image.header.set_slope_inter(slope, inter)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("scaled", SCALED)
def test_scaled_labels_are_the_nearest_whole_numbers_and_come_back_bit_for_bit(tmp_path, affine, scaled):
    slope, inter, steps = SCALED[scaled]
    stored = np.array(steps, np.int16)[blocks()]
    stored[5, 5, 5] = steps[1] + (1 if inter else 0)  # the same label by another value
    path = save_scaled(tmp_path / "a.nii.gz", stored, affine, slope, inter)
    labels, _ = read.read_labels(path)
    np.testing.assert_array_equal(labels, blocks())
    changed = labels.copy()
    changed[3, 3, 3], changed[10, 0, 0] = 0, 2
    write.write_label_map(tmp_path / "b.nii.gz", changed, path)
    after = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read.read_labels(tmp_path / "b.nii.gz")[0], changed)
    expected = stored.copy()
    expected[3, 3, 3], expected[10, 0, 0] = steps[0], steps[2]
    np.testing.assert_array_equal(after.dataobj.get_unscaled(), expected)
    assert after.get_data_dtype() == np.int16 and (after.dataobj.slope, after.dataobj.inter) == (
        np.float32(slope),
        np.float32(inter),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearly_whole_labels_come_back_bit_for_bit_where_they_have_not_changed(tmp_path, dtype):
    values = np.array([0.0, 0.996, 2.0], dtype)[blocks()]
    values[2, 2, 2] = dtype(1.00000012)
    source = save(tmp_path / "a.nii.gz", values, OBLIQUE)
    labels = read.read_labels(source)[0].copy()
    np.testing.assert_array_equal(labels, blocks())
    labels[9, 9, 0], labels[3, 3, 3] = 1, 0
    write.write_label_map(tmp_path / "b.nii.gz", labels, source)
    values[9, 9, 0], values[3, 3, 3] = values[0, 0, 0], 0
    after = nib.load(tmp_path / "b.nii.gz")
    assert after.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(after.dataobj), values)


@pytest.mark.parametrize("slope", [1 / 255, 0.5])
def test_scaled_fractions_are_no_labels(tmp_path, slope):
    ramp = np.arange(256, dtype=np.uint8).reshape(8, 8, 4)
    with pytest.raises(errors.UnrefinableCase, match="soft.nii.gz holds fractions.*threshold"):
        read.read_labels(save_scaled(tmp_path / "soft.nii.gz", ramp, OBLIQUE, slope, 0.0))
