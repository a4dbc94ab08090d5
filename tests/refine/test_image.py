"""Images: what the pack's voxel head sees goes through the chain, on any grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from scripts.evidence.head import VoxelHead
from scripts.geometry.resample import WorldGrid, resample
from scripts.organ.pack import EVIDENCE_FILE
from scripts.refine.chain import Refiner
from scripts.refine.stages import Image, Sampled
from scripts.refine.transforms import LatentFinetuned, PICCTd, ReconstructShaped, RefineShape, TIMSampled
from tests.helpers.bright_head import bright_image, linear_net, pack_with_bright_head
from tests.helpers.mean_shape import KINDS, damaged, dice, mean_shape


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return pack_with_bright_head(tmp_path_factory.mktemp("packs") / "bright")


@pytest.fixture(scope="module")
def refiner(pack):
    return Refiner(pack)


def flawed(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mask that is too small and has a bite and islands, the truth, and the affine."""
    truth, affine = mean_shape(kind)
    small = np.where(ndimage.binary_erosion(truth > 0), truth, 0).astype(truth.dtype)
    return damaged(small, affine), truth, affine


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_becomes_what_the_image_shows(refiner, kind):
    mask, truth, affine = flawed(kind)
    image = bright_image(truth, affine)
    refined, (case,) = refiner.refine(mask, affine, image)
    alone, _ = refiner.refine(mask, affine)
    before, after = dice(mask > 0, truth > 0), dice(refined > 0, truth > 0)
    assert after > max(before + 0.15, dice(alone > 0, truth > 0) + 0.08)
    assert case.quality["evidence"] == "image" and set(np.unique(refined)) <= {0, 1, 2}
    kept = (mask > 0) & (refined > 0)
    np.testing.assert_array_equal(refined[kept], mask[kept])  # parts stay where they were
    said = [region["reason"] for region in case.quality["regions"]]
    assert any("image evidence for it" in reason for reason in said)
    assert case.mesh.is_watertight
    volume_mm3 = (refined > 0).sum() * abs(np.linalg.det(affine[:3, :3]))
    assert case.mesh.volume == pytest.approx(volume_mm3, rel=0.02)


def test_an_image_may_have_a_grid_of_its_own(refiner):
    mask, truth, affine = flawed("plain")
    image = bright_image(truth, affine)
    x, y, z = (int(n / h) for n, h in zip(mask.shape, (0.6, 0.7, 0.8), strict=True))
    fine = WorldGrid(affine @ np.diag([0.6, 0.7, 0.8, 1.0]), (x, y, z))
    other = Image(resample(image.values, affine, fine), fine.affine)
    refined, _ = refiner.refine(mask, affine, other)
    assert dice(refined > 0, truth > 0) > dice(mask > 0, truth > 0) + 0.1


def test_where_the_image_ends_the_mask_stays(refiner):
    mask, truth, affine = flawed("plain")
    image = bright_image(truth, affine)
    middle = mask.shape[1] // 2
    half = Image(image.values[:, :middle], affine)
    refined, (case,) = refiner.refine(mask, affine, half)
    assert case.quality["evidence"] == "image"
    np.testing.assert_array_equal(refined[:, middle:], mask[:, middle:])
    assert dice(refined[:, :middle] > 0, truth[:, :middle] > 0) > 0.88


def test_a_pack_without_a_head_passes_an_image_over(refiner):
    mask, truth, affine = flawed("plain")
    blind = Refiner("hippocampus", see=False)
    seen, (case,) = blind.refine(mask, affine, bright_image(truth, affine))
    np.testing.assert_array_equal(seen, blind.refine(mask, affine)[0])
    assert blind.head is None and case.quality["evidence"] == "shape"


@pytest.mark.parametrize(("given", "source"), [(True, "image"), (False, "probability")])
def test_where_image_and_probabilities_are_known_the_image_is_the_evidence(refiner, given, source):
    mask, truth, affine = flawed("plain")
    prob = np.stack([mask == value for value in (0, 1, 2)]).astype(np.float32)
    _, (case,) = refiner.refine(mask, affine, bright_image(truth, affine) if given else None, prob)
    assert case.quality["evidence"] == source


def test_a_network_s_probabilities_have_a_say_beside_the_image(refiner):
    """Only they let thin changes of a good mask through: a network's mask is no expert's."""
    truth, affine = mean_shape("plain")
    small = np.where(ndimage.binary_erosion(truth > 0), truth, 0).astype(truth.dtype)
    image = bright_image(truth, affine)
    alone, _ = refiner.refine(small, affine, image)
    unsure = np.stack([np.where(small == value, 0.6, 0.2) for value in (0, 1, 2)]).astype(np.float32)
    sure = np.stack([small == value for value in (0, 1, 2)]).astype(np.float32)
    found = [refiner.refine(small, affine, image, prob)[0] for prob in (unsure, sure)]
    changed = [int(((one > 0) != (small > 0)).sum()) for one in (alone, *found)]
    assert changed[0] == 0 < changed[2] < 0.9 * changed[1]


def test_a_mask_that_was_moved_is_not_the_network_s_any_more(pack):
    truth, affine = mean_shape("plain")
    image, moved = bright_image(truth, affine), Refiner(pack, inward_mm=1)
    sure = np.stack([truth == value for value in (0, 1, 2)]).astype(np.float32)
    refined, (case,) = moved.refine(truth, affine, image, sure)
    assert case.quality["inward_mm"] == 1 and case.quality["evidence"] == "image"
    np.testing.assert_array_equal(refined, moved.refine(truth, affine, image)[0])


def test_the_image_of_a_poor_mask_is_read_once_more(refiner, monkeypatch):
    mask, truth, affine = flawed("plain")
    kind = type(refiner.steps["hippocampus"].finetune)
    fit, fits = kind.linear, []
    monkeypatch.setattr(kind, "linear", lambda *given: fits.append(1) or fit(*given))
    counts = []
    mask[mask.shape[0] // 2 :] = 0
    for given in (truth, mask):
        fits.clear()
        refiner.refine(given, affine, bright_image(truth, affine))
        counts.append(len(fits))
    assert counts[1] == counts[0] + 1


def test_a_mask_that_does_not_look_like_its_organ_is_not_changed_by_an_image(refiner, monkeypatch):
    """Where the header has lost the orientation, it has lost that of the image as well."""
    mask, truth, affine = flawed("plain")
    monkeypatch.setattr("scripts.refine.gate.doubts", lambda *_: ["it is no hippocampus"])
    refined, (case,) = refiner.refine(mask, affine, bright_image(truth, affine))
    assert case.quality["evidence"] == "shape" and case.quality["warnings"]
    assert not (refined > mask).any()


@pytest.mark.parametrize(("card", "follows"), [({}, True), ({"without": "prior"}, False)])
def test_a_head_without_prior_is_told_nothing_of_the_fit(tmp_path, card, follows):
    """The head calls inside what is deep in the fit; where it is not told of that, the mask stands in its place."""
    pack = pack_with_bright_head(tmp_path / "pack")
    VoxelHead({"hippocampus": linear_net("fit", -4.0)}, 1.0, card).save(pack / EVIDENCE_FILE)
    truth, affine = mean_shape("plain")
    mask = damaged(truth, affine)
    refined, (case,) = Refiner(pack).refine(mask, affine, bright_image(truth, affine))
    assert case.quality["evidence"] == "image"
    gained = dice(refined > 0, truth > 0) - dice(mask > 0, truth > 0)
    assert gained > 0.03 if follows else ((refined > 0) & (mask == 0)).sum() == 0


def test_the_preset_of_the_paper_does_not_look(pack):
    mask, truth, affine = flawed("plain")
    paper = Refiner(pack, "paper")
    with_image, _ = paper.refine(mask, affine, bright_image(truth, affine))
    np.testing.assert_array_equal(with_image, paper.refine(mask, affine)[0])


def test_where_an_image_shows_nothing_the_shape_decides(refiner):
    mask, _, affine = flawed("plain")
    flat = Image(np.full(mask.shape, 7.0, np.float32), affine)
    away = Image(np.random.default_rng(0).normal(size=mask.shape), affine.copy())
    away.affine[:3, 3] += 500.0
    alone, _ = refiner.refine(mask, affine)
    for image in (flat, away):
        refined, (case,) = refiner.refine(mask, affine, image)
        np.testing.assert_array_equal(refined, alone)
        assert case.quality["evidence"] == "shape"


def test_the_four_transforms_do_what_the_one_does(pack, refiner):
    mask, truth, affine = flawed("oblique")
    image = bright_image(truth, affine)
    pred, seen = (MetaTensor(torch.from_numpy(v[None]), affine=torch.as_tensor(affine)) for v in (mask, image.values))
    data = {"pred": pred, "image": seen}
    for step in (PICCTd("pred", refiner), TIMSampled("pred", refiner, image_key="image")):
        data = step(data)
    (sampled,) = data["pred_shapes"]
    assert isinstance(sampled, Sampled) and sampled.seen is not None
    assert (sampled.seen.mask.whole() != (mask > 0)).any() and (sampled.mask.whole() == (mask > 0)).all()
    for step in (LatentFinetuned("pred", refiner), ReconstructShaped("pred", refiner)):
        data = step(data)
    alone, _ = RefineShape(pack)(pred, seen)
    np.testing.assert_array_equal(data["pred"].numpy(), alone.numpy())


def test_the_fit_follows_what_the_image_made_of_the_mask(refiner):
    """Read with the linear fit alone, a mask much too small already grows."""
    mask, truth, affine = flawed("plain")
    blind = refiner.sample(refiner.align(mask, affine), mask, affine)
    seen = refiner.sample(refiner.align(mask, affine), mask, affine, bright_image(truth, affine))
    grown = [refiner.fit([replace(one, seen=None)])[0].fit.sdf_mm for one in (*blind, *seen)]
    points = WorldGrid(affine, truth.shape).points_world().reshape(-1, 3)
    overlap = [dice((fit(points) < 0).reshape(truth.shape), truth > 0) for fit in grown]
    assert overlap[1] > overlap[0] + 0.05
