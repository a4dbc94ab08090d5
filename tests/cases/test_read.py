"""Reading and checking volumes."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from scripts.cases import errors, read
from tests.helpers.volumes import AFFINES, OBLIQUE, blocks, save, save_with_nan_affine


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(
    ("stored", "expected"),
    [("u1", "u1"), (">i2", "i2"), ("u2", "u2"), ("i4", "i4"), ("u4", "i4"), ("f4", "i4"), ("f8", "i4")],
)
def test_labels_are_read_as_they_are_stored_or_as_32_bits(tmp_path, affine, stored, expected):
    source = save(tmp_path / "a.nii.gz", blocks(np.dtype(stored)), affine)
    labels, its_affine = read.read_labels(source)
    assert labels.dtype == np.dtype(expected) and labels.dtype.isnative
    np.testing.assert_array_equal(labels, blocks())
    np.testing.assert_allclose(its_affine, affine, atol=1e-5)


@pytest.mark.parametrize("shape", [(70, 5, 40), (1, 9, 33), (32, 64, 96), (70, 5, 40, 1)])
def test_labels_come_in_c_order(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 9, shape).astype(np.int16)
    labels, _ = read.read_labels(save(tmp_path / "a.nii.gz", values))
    assert labels.flags.c_contiguous
    np.testing.assert_array_equal(labels, values.reshape(shape[:3]))


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 3e9])
def test_what_is_no_label_is_refused_with_the_remedy(tmp_path, value):
    values = blocks(np.float32)
    values[0, 0, 0] = value
    with pytest.raises(errors.UnrefinableCase, match="a.nii.gz.*(threshold|export)"):
        read.read_labels(save(tmp_path / "a.nii.gz", values))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_truncated_file_is_named(tmp_path, share, ending):
    noise = np.random.default_rng(0).integers(0, 3, (20, 20, 20)).astype(np.uint8)
    source = save(tmp_path / f"broken{ending}", noise)
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    with pytest.raises(errors.UnreadableCase, match=rf"broken{ending}.*again"):
        read.read_label_map(source)


def test_other_formats_and_missing_files_are_named(tmp_path):
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no volume"))
    for name in ("text.nii.gz", "missing.nii.gz"):
        with pytest.raises(errors.UnreadableCase, match=name):
            read.read_label_map(tmp_path / name)


def test_unusable_grids_are_named(tmp_path):
    nan = save_with_nan_affine(tmp_path / "nan.nii.gz", blocks())
    with pytest.raises(errors.UnrefinableCase, match="nan.nii.gz.*NaN.*repair the header"):
        read.read_label_map(nan)
    flat = tmp_path / "flat.nii.gz"
    image = nib.Nifti1Image(blocks(), np.eye(4))
    image.header["srow_z"] = 0  # the third axis leads nowhere
    image.header["sform_code"] = 1
    nib.save(nib.Nifti1Image(blocks(), None, image.header), flat)
    with pytest.raises(errors.UnrefinableCase, match="flat.nii.gz.*singular"):
        read.read_label_map(flat)
    with pytest.raises(errors.UnrefinableCase, match=r"four.nii.gz has the shape \(12, 10, 8, 2\)"):
        read.read_label_map(save(tmp_path / "four.nii.gz", np.stack([blocks()] * 2, -1)))
    with pytest.raises(errors.UnrefinableCase, match=r"two.nii.gz has the shape \(12, 10\)"):
        read.read_label_map(save(tmp_path / "two.nii.gz", blocks()[..., 0]))


def test_values_that_are_no_labels_are_named(tmp_path):
    with pytest.raises(errors.UnrefinableCase, match="soft.nii.gz.*threshold"):
        read.read_label_map(save(tmp_path / "soft.nii.gz", blocks(np.float32) * 0.3))
    holes = blocks(np.float32)
    holes[0, 0, 1] = np.nan
    with pytest.raises(errors.UnrefinableCase, match="holes.nii.gz.*NaN"):
        read.read_label_map(save(tmp_path / "holes.nii.gz", holes))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("name", ["probabilities", "softmax"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_nnunet_s_probabilities_are_read_onto_the_grid_of_their_label_map(tmp_path, affine, name, ending):
    prob = np.random.default_rng(0).random((3, 12, 10, 8)).astype(np.float16)
    save(tmp_path / f"a{ending}", blocks(), affine)
    np.savez_compressed(tmp_path / "a.npz", **{name: prob.transpose(0, 3, 2, 1)})
    prob_read = read.ReadVolumed(["prob"])({"prob": str(tmp_path / "a.npz")})["prob"]
    np.testing.assert_array_equal(prob_read.numpy(), prob.astype(np.float32))
    np.testing.assert_allclose(prob_read.affine, affine, atol=1e-5)


def test_network_output_that_cannot_be_used_is_named_with_the_remedy(tmp_path):
    prob = np.zeros((3, 8, 10, 12), np.float32)
    np.savez_compressed(tmp_path / "a.npz", probabilities=prob)
    with pytest.raises(errors.UnrefinableCase, match="a.npz has no a.nii.gz beside it.*put it there"):
        read.read_volume(tmp_path / "a.npz")
    save(tmp_path / "a.nii.gz", blocks(), OBLIQUE)
    for arrays in ({"probabilities": prob[:, 1:]}, {"probabilities": prob[0]}, {"other": prob}):
        np.savez_compressed(tmp_path / "a.npz", **arrays)
        with pytest.raises(errors.UnrefinableCase, match="not .C, Z, Y, X. of a.nii.gz.*write both anew"):
            read.read_volume(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    for broken in (b"", b"no archive", content[: len(content) // 2]):
        (tmp_path / "a.npz").write_bytes(broken)
        with pytest.raises(errors.UnreadableCase, match="a.npz cannot be read.*again"):
            read.read_volume(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", probabilities=np.array([{}], dtype=object))
    with pytest.raises(errors.UnreadableCase, match="a.npz cannot be read"):
        read.read_volume(tmp_path / "a.npz")
