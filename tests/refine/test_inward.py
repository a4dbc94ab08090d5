"""Masks taken inward, or outward, by one depth for the whole run: found by volume, done where asked for, and named."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.geometry.affine import voxel_volume_mm3
from scripts.geometry.boxed import BoxedMask
from scripts.geometry.surface import mask_signed_distance
from scripts.organ.several import load_packs
from scripts.prior.volume import SITE_DEVIATIONS, UsualVolume
from scripts.refine.chain import Refiner
from scripts.refine.inward import MOST_MM, moved_inward, read_inward, to_usual_mm
from scripts.refine.several import JoinedRefiner
from scripts.refine.stages import Refined
from tests.helpers.mean_shape import KINDS, dice, mean_shape, whole_head
from tests.helpers.two_packs import write_packs

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SPACING = np.array([1.0, 1.0, 2.0])


def ball(radius_mm: float, size=(61, 61, 31), spacing=SPACING) -> np.ndarray:
    places = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1) * spacing
    return np.linalg.norm(places - 30.0, axis=-1) < radius_mm


def volume_ml(radius_mm: float) -> float:
    return 4.0 / 3.0 * np.pi * radius_mm**3 / 1000.0


@pytest.mark.parametrize("inward_mm", [3.0, 0.5, -3.0])
def test_a_ball_becomes_smaller_or_larger_by_the_depth(inward_mm):
    mask = ball(15.0)
    moved = moved_inward(BoxedMask.of(mask), AFFINE, inward_mm, mask.astype(np.uint8)).whole()
    assert (3000.0 * moved.sum() * 2.0 / 1000.0 / (4.0 * np.pi)) ** (1 / 3) == pytest.approx(15.0 - inward_mm, abs=0.4)
    assert ((moved & ~mask).any(), (mask & ~moved).any()) == (inward_mm < 0, inward_mm > 0)


def test_it_takes_no_voxel_of_another_structure_and_keeps_the_border_with_it():
    mask = ball(15.0)
    labels = np.where(mask, 1, 0)
    labels[:30][labels[:30] == 0] = 2
    outward, inward = (moved_inward(BoxedMask.of(mask), AFFINE, mm, labels).whole() for mm in (-3.0, 3.0))
    assert (outward & ~mask)[30:].any() and not (outward & ~mask)[:30].any()
    assert not (mask & ~inward)[:26].any() and (mask & ~inward)[34:].any()
    assert inward[34:].sum() == pytest.approx(ball(12.0)[34:].sum(), rel=0.1)


def test_nothing_may_be_left():
    mask = ball(15.0)
    assert moved_inward(BoxedMask.of(mask), AFFINE, 16.0, mask.astype(np.uint8)) is None


@pytest.mark.parametrize("scale", [1.0, 0.3])  # of the grid: the finer one is looked at in steps
@pytest.mark.parametrize("radius_mm", [18.0, 15.5, 15.0, 14.5, 12.0])
def test_the_depth_to_a_usual_volume(radius_mm, scale):
    """A known spread: at the limit of what is usual a ball has a radius of 15 mm, plus and minus 0.6."""
    spacing = scale * SPACING
    size = tuple(int(60 / step) + 1 for step in spacing)
    usual = UsualVolume(volume_ml(15.0), 3.0 * np.log(15.6 / 15.0) / SITE_DEVIATIONS, 10**6)
    mask = BoxedMask.of(ball(radius_mm, size, spacing))
    expected = radius_mm - np.clip(radius_mm, 15.0**2 / 15.6, 15.6)
    assert to_usual_mm(mask, np.diag([*spacing, 1.0]), usual) == pytest.approx(expected, abs=0.35)
    assert (to_usual_mm(mask, np.diag([*spacing, 1.0]), usual) == 0.0) == (abs(radius_mm - 15.0) <= 0.5)


def test_depths_have_a_most():
    usual = UsualVolume(volume_ml(60.0), 0.05, 40)
    assert to_usual_mm(BoxedMask.of(ball(3.0)), AFFINE, usual) == pytest.approx(-MOST_MM, abs=0.02)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", {}),
        (0, {}),
        ("2.5", {"heart": 2.5, "aorta": 2.5}),
        (-1, {"heart": -1.0, "aorta": -1.0}),
        ("heart=2, aorta=-0.5", {"heart": 2.0, "aorta": -0.5}),
        ("1,aorta=0", {"heart": 1.0}),
        ({"aorta": 3}, {"aorta": 3.0}),
    ],
)
def test_depths_are_read(value, found):
    assert read_inward(value, ["heart", "aorta"]) == found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("liver=2", "there is no structure 'liver'; there are heart, aorta"),
        ("heart=deep", "heart=deep is no depth in mm from -20 to 20: write 2.5 for all structures, or heart=2.5"),
        ("21", "21 is no depth"),
        ("nan", "nan is no depth"),
        ("=3", "there is no structure ''"),
    ],
)
def test_what_is_no_depth_is_refused(value, words):
    with pytest.raises(ValueError, match="inward_mm: ") as refused:
        read_inward(value, ["heart", "aorta"])
    assert words in str(refused.value)


def refined_by(
    inward_mm: object, given: np.ndarray, affine: np.ndarray, enlarged: bool = True
) -> tuple[np.ndarray, Refined]:
    refiner = Refiner("hippocampus", "linear", inward_mm=inward_mm)
    refined, (case,) = refiner.refine(given, affine, enlarged=enlarged)
    assert isinstance(case, Refined)
    return refined, case


def grown(kind: str, by_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean shape's mask, the same larger by a depth, both of label 1, and the affine."""
    truth, affine = mean_shape(kind)
    wide = mask_signed_distance(truth > 0, np.linalg.norm(affine[:3, :3], axis=0)) < by_mm
    return truth > 0, wide.astype(np.uint8), affine


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_taken_inward_where_the_run_asks_for_it(kind):
    truth, wide, affine = grown(kind, 0.9)
    refined, case = refined_by("hippocampus=0.8", wide, affine)
    left, plain = refined_by("", wide, affine)
    quality, voxel_ml = case.quality, voxel_volume_mm3(affine) / 1000.0
    assert dice(refined > 0, truth) > max(0.93, dice(left > 0, truth) + 0.05)
    assert quality["inward_mm"] == 0.8 and quality["taken_in_mm"] == 0 == plain.quality["inward_mm"]
    assert quality["to_usual_mm"] == plain.quality["to_usual_mm"] and not quality["warnings"]
    assert quality["volume_ml"]["initial"] == pytest.approx(wide.sum() * voxel_ml, abs=1e-3)
    assert quality["removed_ml"] == pytest.approx(((wide > 0) & (refined == 0)).sum() * voxel_ml, abs=1e-3)
    assert quality["regions"][0]["reason"] == "taken inward by 0.8 mm, as asked for"
    assert "predicted_dsc" in quality and not quality["outside_prior"]


def test_a_mask_is_taken_outward_where_the_run_asks_for_it():
    truth, small, affine = grown("plain", -1.0)
    refined, case = refined_by(-1, small, affine)
    left, _ = refined_by("", small, affine)
    assert dice(refined > 0, truth) > max(0.93, dice(left > 0, truth) + 0.05)
    assert case.quality["regions"][0]["kind"] == "add"
    assert case.quality["regions"][0]["reason"] == "taken outward by 1 mm, as asked for"
    assert case.quality["added_ml"] == pytest.approx(((refined > 0) & (small == 0)).sum() / 1000.0, abs=1e-3)


def test_what_is_far_too_large_still_is_taken_further_inward_and_both_are_named():
    truth, wide, affine = grown("plain", 2.4)
    refined, case = refined_by(0.8, wide, affine, enlarged=False)
    quality = case.quality
    assert quality["inward_mm"] == 0.8 and quality["taken_in_mm"] > 0.2
    assert quality["volume_ml"]["initial"] == pytest.approx(wide.sum() / 1000.0, abs=1e-3)
    said = "taken inward by 0.8 mm, as asked for, and the mask is larger than nearly all organs are"
    assert quality["regions"][0]["reason"] == said
    assert dice(refined > 0, truth) > dice(wide > 0, truth) + 0.1


def test_what_does_not_look_like_the_organ_loses_far_islands_alone():
    _, wide, affine = grown("plain", 0.9)
    wide[:6, :6, :6] = 1
    turned = affine @ np.eye(4)[[1, 0, 2, 3]]
    refined, case = refined_by(0.8, wide, turned)
    left, _ = refined_by("", wide, turned)
    np.testing.assert_array_equal(refined, left)
    assert not refined[:6, :6, :6].any() and refined.sum() == wide.sum() - 6**3
    quality = case.quality
    assert quality["inward_mm"] == 0 and quality["doubtful"]
    assert quality["removed_ml"] == pytest.approx(0.216) and quality["regions"][0]["volume_mm3"] == 216.0
    (said,) = quality["warnings"]
    assert said.startswith("taken inward by 0.8 mm, as asked for, it does not look like hippocampus")
    assert "nothing but far islands was changed" in said


def test_the_paper_s_method_and_a_mask_of_which_nothing_would_be_left_are_not_moved():
    _, wide, affine = grown("plain", 0.9)
    refined, _ = Refiner("hippocampus", "paper", inward_mm=0.8).refine(wide, affine)
    plain, _ = Refiner("hippocampus", "paper").refine(wide, affine)
    np.testing.assert_array_equal(refined, plain)
    _, case = refined_by(15, wide, affine)
    assert case.quality["inward_mm"] == 0
    (said,) = case.quality["warnings"]
    assert said == "not taken inward by 15 mm, as asked for: what is left does not look like hippocampus"


@pytest.mark.parametrize(
    ("asked", "moved"),
    [("1", (1.0, 1.0)), ("hippocampus=1", (1.0, 1.0)), ("hippocampus_left=1", (0.0, 1.0))],
)
def test_both_sides_of_a_pair_are_moved_or_one(asked, moved):
    labels, _, affine = whole_head("plain", cut=False)
    refiner = Refiner("hippocampus", "linear", inward_mm=asked)
    _, cases = refiner.refine(labels, affine, enlarged=True)
    found = {case.name: case.quality["inward_mm"] for case in cases}
    assert found == {"hippocampus_right": moved[0], "hippocampus_left": moved[1]}


def test_each_of_several_packs_has_its_own_depths(tmp_path):
    packs = load_packs(write_packs(tmp_path))
    joined = JoinedRefiner(packs, "linear", inward_mm="pea=1.5")
    assert {name: mm for _, refiner in joined.refiners for name, mm in refiner.inward_mm.items() if mm} == {"pea": 1.5}
    with pytest.raises(ValueError, match="there is no structure 'carrot'"):
        JoinedRefiner(packs, "linear", inward_mm="carrot=1.5")


def test_labels_of_parts_stay_with_their_parts():
    truth, affine = mean_shape("plain")
    given = MetaTensor(torch.from_numpy(truth), affine=torch.as_tensor(affine)).numpy()
    refined, _ = refined_by(-0.7, given, affine)
    assert set(np.unique(refined)) == {0, 1, 2}
    grew = (refined > 0) & (truth == 0)
    assert {1, 2} == set(np.unique(refined[grew]))
