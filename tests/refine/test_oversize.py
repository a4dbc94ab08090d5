"""Masks larger than their organ can be: found by their volume, taken inward, refined, and named."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy import ndimage

from scripts.geometry.affine import voxel_volume_mm3
from scripts.geometry.boxed import BoxedMask
from scripts.geometry.surface import mask_signed_distance
from scripts.prior.volume import UsualVolume
from scripts.refine.chain import Refiner
from scripts.refine.oversize import MOST_MEANS, WIDE_LOG_SD, replace_mask, taken_in
from scripts.refine.stages import Whole
from scripts.refine.transforms import LatentFinetuned, PICCTd, ReconstructShaped, RefineShape, TIMSampled
from tests.helpers.bright_head import bright_image, pack_with_bright_head
from tests.helpers.mean_shape import KINDS, dice, mean_shape

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def ball(radius_mm: float, centre=(20.0, 20.0, 20.0), size=(41, 41, 21)) -> np.ndarray:
    places = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1) * AFFINE.diagonal()[:3]
    return np.linalg.norm(places - centre, axis=-1) < radius_mm


def volume_ml(mask: np.ndarray) -> float:
    return float(mask.sum()) * voxel_volume_mm3(AFFINE) / 1000.0


def usual(mean_ml: float, log_sd: float = 0.1) -> UsualVolume:
    return UsualVolume(mean_ml, log_sd, 10**6)


def takes(mask: np.ndarray, known: UsualVolume | None) -> tuple[BoxedMask, Whole] | None:
    return taken_in(BoxedMask.of(mask), AFFINE, known)


@pytest.mark.parametrize(
    ("deviations", "islands", "voxels", "said"),
    [(3.2, 0, 1, True), (2.8, 0, 1, False), (2.2, 5, 4, True), (2.2, 4, 4, False), (2.2, 5, 3, False)]
    + [(3.2, 5, 1, True), (1.8, 7, 4, False), (-5.0, 7, 4, False)],
)
def test_a_volume_beyond_all_that_is_usual_is_too_large_and_a_large_one_torn_into_pieces(
    deviations, islands, voxels, said
):
    mask = ball(12.0)  # of which four voxels are a thousandth
    mean_ml = volume_ml(mask) / np.exp(0.1 * deviations)
    mask[:voxels, 0, 2 : 2 + 2 * islands : 2] = True
    found = takes(mask, usual(mean_ml))
    assert (found is not None) == said
    assert found is None or volume_ml(found[0].whole()) == pytest.approx(mean_ml * np.exp(0.1), rel=0.01)


def test_islands_do_not_make_it_too_large():
    mask = ball(10.0) | ball(6.0, centre=(35.0, 35.0, 35.0))
    known = usual(volume_ml(ball(10.0)), 0.03)
    assert known.deviations(volume_ml(mask)) > 3.0
    assert takes(mask, known) is None


def test_a_mask_of_something_else_and_a_prior_without_volumes_say_nothing():
    mask = ball(12.0)
    assert takes(mask, usual(volume_ml(mask) / MOST_MEANS * 0.9)) is None
    assert takes(mask, usual(volume_ml(mask) / MOST_MEANS * 1.1)) is not None
    assert takes(mask, None) is None


def test_an_organ_of_all_sizes_is_never_too_large():
    mask = ball(12.0)
    mean_ml = volume_ml(mask) / np.exp(3.6 * WIDE_LOG_SD)
    assert takes(mask, usual(mean_ml, WIDE_LOG_SD - 0.02)) is not None
    assert takes(mask, usual(mean_ml, WIDE_LOG_SD + 0.02)) is None


def test_it_is_taken_inward_on_coarse_grids_too():
    mask = ball(5.0)[::3, ::3, ::2]
    remains, whole = taken_in(BoxedMask.of(mask), np.diag([3.0, 3.0, 4.0, 1.0]), usual(0.35, 0.1))
    assert 0 < remains.count < mask.sum() and whole.inward_mm > 0


def test_the_largest_body_is_taken_inward_to_a_usual_volume():
    mask = ball(14.0) | ball(2.5, centre=(37.0, 37.0, 37.0))
    remains, whole = takes(mask, usual(4.0))
    inside, expected_ml = remains.whole(), 4.0 * np.exp(0.1)
    assert volume_ml(inside) == pytest.approx(expected_ml, rel=0.02)
    radius_mm = np.cbrt(3000.0 * expected_ml / (4 * np.pi))
    assert whole.inward_mm == pytest.approx(14.0 - radius_mm, abs=1.0)
    assert not (inside & ~ball(radius_mm + 1.5)).any() and not (ball(radius_mm - 1.5) & ~inside).any()


def test_it_is_not_taken_inward_from_the_end_of_the_image():
    mask = ball(16.0)[:20]
    remains, _ = takes(mask, usual(0.5 * volume_ml(mask)))
    assert remains.whole()[-1].sum() > 0.5 * mask[-1].sum()


def test_a_second_body_that_may_be_an_organ_stays():
    one = ball(9.0, centre=(9.0, 9.0, 12.0))
    mask = one | ball(8.0, centre=(30.0, 30.0, 28.0))
    assert takes(mask, usual(1.0)) is None
    mask[0, 0, 15:20:4] = True  # stray voxels
    assert takes(mask, usual(1.0)) is None
    mask[0:2, 0:2, 15] = True  # the mask of a network that does not know
    remains, whole = takes(mask, usual(1.0))
    assert remains.whole().any() and not (remains.whole() & ~one).any()
    assert len(whole.others) == 1 and whole.others[0].volume_mm3 > 1000.0


def test_another_body_that_goes_is_named(refine):
    truth, affine = mean_shape("plain")
    wide = mask_signed_distance(truth > 0, np.ones(3)) < 1.6
    both = np.concatenate([wide, truth > 0], axis=2)
    both[0, 0, :8:4] = both[-2:, -2:, :3] = True
    _, (shape,) = refine(MetaTensor(both[None].astype(np.uint8), affine=affine))
    (warning,) = [text for text in shape.quality["warnings"] if "far too large" in text]
    assert re.search(r"the rest refined; another body of [\d.]+ ml, \d+ mm away, was removed; look at it", warning)


def test_a_label_map_loses_what_is_too_much_and_nothing_else():
    mask, other = ball(12.0), ball(4.0, centre=(4.0, 4.0, 4.0))
    label_map = np.where(mask, 1, np.where(other, 2, 0)).astype(np.uint8)
    remains, _ = takes(mask, usual(3.0))
    replace_mask(label_map, BoxedMask.of(mask), remains, 1)
    np.testing.assert_array_equal(label_map == 1, remains.whole())
    np.testing.assert_array_equal(label_map == 2, other & ~mask)


@pytest.fixture(scope="module")
def refine():
    return RefineShape("hippocampus", "linear")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_twice_as_large_is_refined_and_named(refine, kind):
    truth, affine = mean_shape(kind)
    wide = mask_signed_distance(truth > 0, np.linalg.norm(affine[:3, :3], axis=0)) < 1.6
    nearest = ndimage.distance_transform_edt(truth == 0, return_distances=False, return_indices=True)
    given = np.where(wide, truth[tuple(nearest)], 0).astype(np.uint8)
    given[0, 0, 0] = 1  # beyond the box of the fit
    voxel_ml = voxel_volume_mm3(affine) / 1000.0
    refined, (case,) = refine(MetaTensor(torch.from_numpy(given), affine=torch.from_numpy(affine)))
    quality, inside = case.quality, refined.numpy() > 0
    assert dice(inside, truth > 0) > 0.85 > dice(wide, truth > 0) + 0.1
    assert set(np.unique(refined)) == {0, 1, 2} and not (inside & ~wide).any() and not inside[0, 0, 0]
    assert 0.5 < quality["taken_in_mm"] < 2.5
    assert quality["volume_ml"]["initial"] == pytest.approx((wide.sum() + 1) * voxel_ml, abs=1e-3)
    assert quality["volume_ml"]["refined"] == pytest.approx(inside.sum() * voxel_ml, abs=1e-3)
    assert quality["removed_ml"] == pytest.approx((given[~inside] > 0).sum() * voxel_ml, abs=1e-3)
    assert (
        quality["agreement"]["initial"]["volume_deviations"] > 3 > quality["agreement"]["refined"]["volume_deviations"]
    )
    assert "far too large for hippocampus (19 of 20 have 2.5 to 4.2 ml)" in quality["warnings"][0]
    assert quality["outside_prior"] and quality["outside_prior_reason"] == quality["warnings"][0]
    assert "predicted_dsc" not in quality
    assert quality["regions"][0]["reason"] == "the mask is larger than nearly all organs are"
    assert case.mesh.volume == pytest.approx(inside.sum() * voxel_volume_mm3(affine), rel=0.1)


def test_the_usual_mask_is_not_taken_inward(refine):
    truth, affine = mean_shape("plain")
    _, (case,) = refine(MetaTensor(torch.from_numpy(truth), affine=torch.from_numpy(affine)))
    assert case.quality["taken_in_mm"] == 0 and not case.quality["outside_prior"]


def test_with_an_image_what_remains_is_refined(tmp_path):
    truth, affine = mean_shape("plain")
    wide = (mask_signed_distance(truth > 0, np.ones(3)) < 1.6).astype(np.uint8)
    refiner = Refiner(pack_with_bright_head(tmp_path / "bright"), "linear")
    refined, (case,) = refiner.refine(wide, affine, bright_image(truth, affine))
    assert case.quality["taken_in_mm"] > 0.5 and case.quality["evidence"] == "image"
    assert dice(refined > 0, truth > 0) > 0.95
    gone_mm3 = case.quality["regions"][0]["volume_mm3"]
    assert gone_mm3 == ((wide > 0) & (refined == 0)).sum()


def test_probabilities_of_the_network_say_how_large_it_is(refine):
    truth, affine = mean_shape("plain")
    wide = (mask_signed_distance(truth > 0, np.ones(3)) < 1.6).astype(np.uint8)
    prob = np.stack([1.0 - wide, wide, np.zeros(wide.shape)]).astype(np.float32)
    _, (case,) = refine.refiner.refine(wide, affine, prob=prob)
    assert case.quality["taken_in_mm"] == 0


def test_an_organ_that_disease_has_enlarged_is_left_as_large(refine):
    truth, affine = mean_shape("plain")
    wide = (mask_signed_distance(truth > 0, np.ones(3)) < 1.6).astype(np.uint8)
    steps = [PICCTd("pred", refine.refiner), TIMSampled("pred", refine.refiner, enlarged=True)]
    steps += [LatentFinetuned("pred", refine.refiner), ReconstructShaped("pred", refine.refiner)]
    found = Compose(steps)({"pred": MetaTensor(torch.from_numpy(wide[None]), affine=torch.from_numpy(affine))})
    quality = found["pred_shapes"][0].quality
    assert quality["taken_in_mm"] == 0 and not quality["warnings"]


def test_a_fit_that_replaces_the_mask_is_the_paper_s():
    truth, affine = mean_shape("plain")
    wide = (mask_signed_distance(truth > 0, np.ones(3)) < 1.6).astype(np.uint8)
    _, (case,) = Refiner("hippocampus", "paper").refine(wide, affine)
    assert case.quality["taken_in_mm"] == 0


def test_what_does_not_look_like_the_organ_stays_whole(refine):
    truth, affine = mean_shape("plain")
    wide = (mask_signed_distance(truth > 0, np.ones(3)) < 1.6).astype(np.uint8)
    turned = affine @ np.eye(4)[[1, 0, 2, 3]]
    refined, (case,) = refine.refiner.refine(wide, turned)
    np.testing.assert_array_equal(refined, wide)
    quality = case.quality
    assert quality["doubtful"] and quality["taken_in_mm"] == 0 and quality["changed_voxels"] == 0
    assert quality["volume_ml"]["initial"] == quality["volume_ml"]["refined"] == pytest.approx(wide.sum() / 1000.0)
    (said,) = quality["warnings"]
    assert "far too large for hippocampus" in said and "nothing was changed; check the orientation" in said


def test_what_goes_of_a_mask_that_cannot_be_fitted_is_far_from_all_of_it(refine):
    truth, affine = mean_shape("plain")
    wide = mask_signed_distance(truth > 0, np.ones(3)) < 1.6
    refiner = refine.refiner
    (one,) = refiner.sample(refiner.align(wide.astype(np.uint8), affine), wide.astype(np.uint8), affine)
    island = np.zeros_like(wide)
    island[:2, :2, :2] = True
    torn = replace(one, mask=BoxedMask.of(one.mask.whole() | island))
    assert one.whole is not None and refiner._islands(torn, None) is None
    torn = replace(one, whole=replace(one.whole, mask=BoxedMask.of(wide | island)))
    assert len(refiner._islands(torn, None).voxels) == 8
