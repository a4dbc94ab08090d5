"""Masks without an image: what the pack's voxel head for these makes of mask and fits."""

import numpy as np
import pytest
from scipy import ndimage

from scripts.evidence.head import VoxelHead
from scripts.organ.pack import BLIND_FILE
from scripts.refine.chain import Refiner
from tests.helpers.bright_head import bright_image, linear_net, pack_with_bright_head, with_following_head
from tests.helpers.mean_shape import KINDS, damaged, dice, mean_shape


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return with_following_head(pack_with_bright_head(tmp_path_factory.mktemp("packs") / "both"))


@pytest.fixture(scope="module")
def refiner(pack):
    return Refiner(pack)


def grown(truth: np.ndarray, by: float, waver: float) -> np.ndarray:
    """A mask that is too large all around, by a voxel or two, with a wavering surface."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=truth.shape), 1.2)
    outside = ndimage.distance_transform_edt(truth == 0) - ndimage.distance_transform_edt(truth > 0)
    return (outside + waver * noise / noise.std() <= by).astype(truth.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_decides_where_there_is_no_image(refiner, kind):
    truth, affine = mean_shape(kind)
    mask = damaged(truth, affine)
    refined, (case,) = refiner.refine(mask, affine)
    assert case.quality["evidence"] == "mask"
    assert any("mask evidence" in region["reason"] for region in case.quality["regions"])
    assert dice(refined > 0, truth > 0) > dice(mask > 0, truth > 0) + 0.03
    assert set(np.unique(refined)) <= {0, 1, 2} and case.mesh.is_watertight
    assert "head_dice" not in case.quality["agreement"]["refined"]  # that is an image's to say


def test_an_image_and_probabilities_go_before_it(refiner):
    truth, affine = mean_shape("plain")
    mask = damaged(truth, affine)
    prob = np.stack([mask == value for value in (0, 1, 2)]).astype(np.float32)
    for image, given, source in (
        (bright_image(truth, affine), None, "image"),
        (bright_image(truth, affine), prob, "image"),
        (None, prob, "probability"),
        (None, None, "mask"),
    ):
        _, (case,) = refiner.refine(mask, affine, image, given)
        assert case.quality["evidence"] == source


def test_a_pack_that_reads_no_images_passes_them_over(pack, tmp_path):
    blind = pack_with_bright_head(tmp_path / "blind")
    (blind / "evidence.safetensors").unlink()
    refiner = Refiner(with_following_head(blind))
    truth, affine = mean_shape("plain")
    mask = damaged(truth, affine)
    refined, (case,) = refiner.refine(mask, affine, bright_image(truth, affine))
    assert case.quality["evidence"] == "mask"
    np.testing.assert_array_equal(refined, refiner.refine(mask, affine)[0])


def test_a_mask_that_does_not_look_like_its_organ_is_left_to_the_shape(refiner, monkeypatch):
    truth, affine = mean_shape("plain")
    mask = damaged(truth, affine)
    monkeypatch.setattr("scripts.refine.gate.doubts", lambda *_: ["it is no hippocampus"])
    refined, (case,) = refiner.refine(mask, affine)
    assert case.quality["evidence"] == "shape" and not (refined > mask).any()


def test_no_head_is_asked_where_none_is_wanted(pack):
    truth, affine = mean_shape("plain")
    mask = damaged(truth, affine)
    assert Refiner(pack, see=False).blind is None
    _, (case,) = Refiner(pack, "paper").refine(mask, affine)
    assert case.quality["evidence"] == "shape"


def test_a_head_that_lacks_a_structure_is_named(tmp_path):
    folder = pack_with_bright_head(tmp_path / "thorax", "thorax", 2.0)
    VoxelHead({"heart": linear_net("fit", -4.0)}, 2.0).save(folder / BLIND_FILE)
    with pytest.raises(ValueError, match=f"{BLIND_FILE} does not know oesophagus, trachea, aorta: train it anew"):
        Refiner(folder)


@pytest.mark.parametrize(("by", "waver"), [(2.0, 0.0), (2.0, 0.7), (2.5, 0.7)])
def test_the_shipped_head_mends_masks_that_are_far_too_large(by, waver):
    """Rules of depth cannot: a fit follows what is too large all around."""
    truth, affine = mean_shape("plain")
    mask = grown(truth, by, waver)
    refined, (case,) = Refiner("hippocampus").refine(mask, affine)
    assert case.quality["evidence"] == "mask"
    assert dice(refined > 0, truth > 0) > dice(mask > 0, truth > 0) + 0.08


def test_the_shipped_head_leaves_a_true_mask():
    truth, affine = mean_shape("plain")
    refined, _ = Refiner("hippocampus").refine(truth, affine)
    assert dice(refined > 0, truth > 0) > 0.995
