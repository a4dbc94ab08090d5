"""Reading, checking and writing volumes."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cases import io
from scripts.cases.sources import ReadMaskd
from tests.helpers.volumes import AFFINES, OBLIQUE, blocks, save, save_with_nan_affine

LABELS = [1, 2]


def check(mask):
    return io.CheckMaskd("pred", LABELS)({"pred": mask})


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_label_map_comes_back_with_grid_type_and_codes(tmp_path, affine, dtype):
    source = save(tmp_path / "a.nii.gz", blocks(dtype), affine, sform=2, qform=1)
    mask = ReadMaskd()({"pred": str(source)})["pred"]
    assert mask.shape == (1, 12, 10, 8) and mask.dtype == torch.int32
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    labels = mask[0].numpy().copy()
    labels[3, 3, 3] = 2
    io.write_label_map(tmp_path / "b.nii.gz", labels, source)
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
        io.write_label_map(tmp_path / "b.nii.gz", blocks(), source)
        after = nib.load(tmp_path / "b.nii.gz")
        assert (int(after.header["sform_code"]), int(after.header["qform_code"])) == (sform, qform)
        np.testing.assert_allclose(after.affine, affine, atol=1e-5)


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (4, 0), (0, 3)])
def test_a_part_of_a_grid_lies_where_it_did_with_the_codes_of_the_whole(tmp_path, sform, qform):
    source = save(tmp_path / "a.nii.gz", blocks(), OBLIQUE, sform, qform)
    box = (slice(2, 9), slice(1, 10), slice(0, 5))
    io.write_label_map(tmp_path / "b.nii.gz", blocks()[box], source, box=box)
    whole, part = nib.load(source), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(part.dataobj), blocks()[box])
    np.testing.assert_allclose(part.affine[:3, :3], whole.affine[:3, :3], atol=1e-5)
    np.testing.assert_allclose(part.affine[:3, 3], (whole.affine @ [2, 1, 0, 1])[:3], atol=1e-4)
    assert (int(part.header["sform_code"]), int(part.header["qform_code"])) == (sform, qform)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(
    ("stored", "read"),
    [("u1", "u1"), (">i2", "i2"), ("u2", "u2"), ("i4", "i4"), ("u4", "i4"), ("f4", "i4"), ("f8", "i4")],
)
def test_labels_are_read_as_they_are_stored_or_as_32_bits(tmp_path, affine, stored, read):
    source = save(tmp_path / "a.nii.gz", blocks(np.dtype(stored)), affine)
    labels, its_affine = io.read_labels(source)
    assert labels.dtype == np.dtype(read) and labels.dtype.isnative
    np.testing.assert_array_equal(labels, blocks())
    np.testing.assert_allclose(its_affine, affine, atol=1e-5)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 3e9])
def test_what_is_no_label_is_refused_with_the_remedy(tmp_path, value):
    values = blocks(np.float32)
    values[0, 0, 0] = value
    with pytest.raises(io.UnrefinableCase, match="a.nii.gz.*(threshold|export)"):
        io.read_labels(save(tmp_path / "a.nii.gz", values))


def test_last_axis_of_one_is_accepted_and_kept(tmp_path):
    source = save(tmp_path / "a.nii.gz", blocks()[..., None])
    assert io.read_label_map(source).shape == (1, 12, 10, 8)
    io.write_label_map(tmp_path / "b.nii.gz", blocks(), source)
    assert nib.load(tmp_path / "b.nii.gz").shape == (12, 10, 8, 1)


def test_masks_of_images_are_uint8(tmp_path):
    source = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32), OBLIQUE)
    io.write_label_map(tmp_path / "b.nii.gz", blocks(np.int64), source, "uint8")
    after = nib.load(tmp_path / "b.nii.gz")
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(after.dataobj), blocks())


def test_what_does_not_fit_is_not_written(tmp_path):
    source = save(tmp_path / "a.nii.gz", blocks())
    with pytest.raises(RuntimeError, match="do not fit"):
        io.write_label_map(tmp_path / "b.nii.gz", blocks()[1:], source)
    with pytest.raises(RuntimeError, match="do not fit the data type"):
        io.write_label_map(tmp_path / "b.nii.gz", blocks(np.int64) * 300, source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz"]


def test_same_labels_give_the_same_bytes(tmp_path):
    source = save(tmp_path / "a.nii.gz", blocks())
    for name in ("b", "c"):
        io.write_label_map(tmp_path / f"{name}.nii.gz", blocks(), source)
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_truncated_file_is_named(tmp_path, share, ending):
    noise = np.random.default_rng(0).integers(0, 3, (20, 20, 20)).astype(np.uint8)
    source = save(tmp_path / f"broken{ending}", noise)
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    with pytest.raises(io.UnreadableCase, match=rf"broken{ending}.*again"):
        io.read_label_map(source)


def test_other_formats_and_missing_files_are_named(tmp_path):
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no volume"))
    for name in ("text.nii.gz", "missing.nii.gz"):
        with pytest.raises(io.UnreadableCase, match=name):
            io.read_label_map(tmp_path / name)


def test_unusable_grids_are_named(tmp_path):
    nan = save_with_nan_affine(tmp_path / "nan.nii.gz", blocks())
    with pytest.raises(io.UnrefinableCase, match="nan.nii.gz.*NaN.*repair the header"):
        io.read_label_map(nan)
    flat = tmp_path / "flat.nii.gz"
    image = nib.Nifti1Image(blocks(), np.eye(4))
    image.header["srow_z"] = 0  # the third axis leads nowhere
    image.header["sform_code"] = 1
    nib.save(nib.Nifti1Image(blocks(), None, image.header), flat)
    with pytest.raises(io.UnrefinableCase, match="flat.nii.gz.*singular"):
        io.read_label_map(flat)
    with pytest.raises(io.UnrefinableCase, match=r"four.nii.gz has the shape \(12, 10, 8, 2\)"):
        io.read_label_map(save(tmp_path / "four.nii.gz", np.stack([blocks()] * 2, -1)))
    with pytest.raises(io.UnrefinableCase, match=r"two.nii.gz has the shape \(12, 10\)"):
        io.read_label_map(save(tmp_path / "two.nii.gz", blocks()[..., 0]))


def test_values_that_are_no_labels_are_named(tmp_path):
    with pytest.raises(io.UnrefinableCase, match="soft.nii.gz.*threshold"):
        io.read_label_map(save(tmp_path / "soft.nii.gz", blocks(np.float32) * 0.3))
    holes = blocks(np.float32)
    holes[0, 0, 1] = np.nan
    with pytest.raises(io.UnrefinableCase, match="holes.nii.gz.*NaN"):
        io.read_label_map(save(tmp_path / "holes.nii.gz", holes))


def test_mask_checks(tmp_path):
    empty = io.read_label_map(save(tmp_path / "empty.nii.gz", blocks() * 0))
    with pytest.raises(io.UnrefinableCase, match="empty.nii.gz: the mask is empty"):
        check(empty)
    other = io.read_label_map(save(tmp_path / "other.nii.gz", blocks() * 4))
    with pytest.raises(io.UnrefinableCase, match=r"other.nii.gz holds the labels \[4, 8\].*\[1, 2\].*--organ"):
        check(other)
    good = io.read_label_map(save(tmp_path / "good.nii.gz", blocks()))
    kept = io.KeepInitiald("pred")(check(good))
    kept["pred"][0, 0, 0, 0] = 2
    assert int(kept["initial"][0, 0, 0, 0]) == 1 and kept["initial"].meta["filename_or_obj"].endswith("good.nii.gz")


def test_of_many_values_that_no_label_has_some_are_named():
    mask = MetaTensor(torch.arange(27, dtype=torch.int32).reshape(1, 3, 3, 3))
    with pytest.raises(io.UnrefinableCase, match=r"the labels \[3, 4, 5, 6, 7\] and 19 more, but"):
        check(mask)


def test_copies_keep_every_byte(tmp_path):
    compressed, plain = save(tmp_path / "a.nii.gz", blocks()), save(tmp_path / "b.nii", blocks())
    io.copy_volume(compressed, tmp_path / "c.nii.gz")
    io.copy_volume(plain, tmp_path / "d.nii.gz")
    assert (tmp_path / "c.nii.gz").read_bytes() == compressed.read_bytes()
    assert gzip.decompress((tmp_path / "d.nii.gz").read_bytes()) == plain.read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64, np.float32])
def test_labels_are_counted(dtype, monkeypatch):
    monkeypatch.setattr(io, "COUNTED_AT_ONCE", 7)
    values = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(dtype)
    values[0, 0, 0] = 250
    found, counts = np.unique(values, return_counts=True)
    expected = dict(zip(found.tolist(), counts.tolist(), strict=True))
    assert io.label_counts(values) == io.label_counts(np.asfortranarray(values)) == expected
    assert io.label_values(values[:0]) == []


def test_negative_and_huge_labels_are_counted():
    assert io.label_counts(np.array([-3, 7, 7], np.int16)) == {-3: 1, 7: 2}
    assert io.label_counts(np.array([-(2**40), 0, 2**40])) == {-(2**40): 1, 0: 1, 2**40: 1}


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
    labels, _ = io.read_labels(path)
    np.testing.assert_array_equal(labels, blocks())
    changed = labels.copy()
    changed[3, 3, 3], changed[10, 0, 0] = 0, 2
    io.write_label_map(tmp_path / "b.nii.gz", changed, path)
    after = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(io.read_labels(tmp_path / "b.nii.gz")[0], changed)
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
    labels = io.read_labels(source)[0].copy()
    np.testing.assert_array_equal(labels, blocks())
    labels[9, 9, 0], labels[3, 3, 3] = 1, 0
    io.write_label_map(tmp_path / "b.nii.gz", labels, source)
    values[9, 9, 0], values[3, 3, 3] = values[0, 0, 0], 0
    after = nib.load(tmp_path / "b.nii.gz")
    assert after.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(after.dataobj), values)


@pytest.mark.parametrize("slope", [1 / 255, 0.5])
def test_scaled_fractions_are_no_labels(tmp_path, slope):
    ramp = np.arange(256, dtype=np.uint8).reshape(8, 8, 4)
    with pytest.raises(io.UnrefinableCase, match="soft.nii.gz holds fractions.*threshold"):
        io.read_labels(save_scaled(tmp_path / "soft.nii.gz", ramp, OBLIQUE, slope, 0.0))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("name", ["probabilities", "softmax"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_nnunet_s_probabilities_are_read_onto_the_grid_of_their_label_map(tmp_path, affine, name, ending):
    prob = np.random.default_rng(0).random((3, 12, 10, 8)).astype(np.float16)
    save(tmp_path / f"a{ending}", blocks(), affine)
    np.savez_compressed(tmp_path / "a.npz", **{name: prob.transpose(0, 3, 2, 1)})
    read = io.ReadVolumed(["prob"])({"prob": str(tmp_path / "a.npz")})["prob"]
    np.testing.assert_array_equal(read.numpy(), prob.astype(np.float32))
    np.testing.assert_allclose(read.affine, affine, atol=1e-5)


def test_network_output_that_cannot_be_used_is_named_with_the_remedy(tmp_path):
    prob = np.zeros((3, 8, 10, 12), np.float32)
    np.savez_compressed(tmp_path / "a.npz", probabilities=prob)
    with pytest.raises(io.UnrefinableCase, match="a.npz has no a.nii.gz beside it.*put it there"):
        io.read_volume(tmp_path / "a.npz")
    save(tmp_path / "a.nii.gz", blocks(), OBLIQUE)
    for arrays in ({"probabilities": prob[:, 1:]}, {"probabilities": prob[0]}, {"other": prob}):
        np.savez_compressed(tmp_path / "a.npz", **arrays)
        with pytest.raises(io.UnrefinableCase, match="not .C, Z, Y, X. of a.nii.gz.*write both anew"):
            io.read_volume(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    for broken in (b"", b"no archive", content[: len(content) // 2]):
        (tmp_path / "a.npz").write_bytes(broken)
        with pytest.raises(io.UnreadableCase, match="a.npz cannot be read.*again"):
            io.read_volume(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", probabilities=np.array([{}], dtype=object))
    with pytest.raises(io.UnreadableCase, match="a.npz cannot be read"):
        io.read_volume(tmp_path / "a.npz")
