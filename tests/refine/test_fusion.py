from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.refine.fusion import (
    ADD,
    ALL_SOUND,
    REMOVE,
    Soundness,
    cut_regions,
    decide,
    follow,
    fuse,
    judge_beyond,
    judge_regions,
)
from scripts.refine.limits import Limits
from scripts.refine.settings import RefineSettings

LIMITS = Limits.of(RefineSettings.load("default"), 40.0, 30.0, 1.0)  # island 4, excess 12, missing 4.4 mm


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 5))
def test_fuse_is_the_median(mask_mm, fit_mm, tau_mm):
    fused = fuse(np.array([mask_mm]), np.array([fit_mm]), tau_mm)[0]
    assert fused == pytest.approx(np.median([mask_mm, fit_mm - tau_mm, fit_mm + tau_mm]))


def test_fuse_keeps_the_mask_where_the_other_says_nothing():
    assert fuse(np.array([1.5]), np.array([np.nan]), 1.0)[0] == 1.5


def test_long_regions_are_cut_into_slabs():
    change = np.zeros((60, 8, 8), bool)
    change[5:55, 2:6, 2:6] = True
    change[0:2, 0:2, 0:2] = True
    labels, whole = cut_regions(change, np.diag([1.0, 1.0, 2.0, 1.0]))
    sizes = np.bincount(labels.ravel(), minlength=len(whole))[1:]
    long = int(labels[5, 3, 3])
    assert whole == [0, 1, 2, long, long, long]
    assert len(sizes) == 5 and sizes.min() == 8 and sizes.sum() == change.sum()
    assert (labels[change] > 0).all() and not labels[~change].any()


@pytest.mark.parametrize(
    ("kind", "fit", "context", "probability", "island", "sound", "accepted"),
    [
        (REMOVE, 9.0, None, None, True, 0.9, True),
        (REMOVE, 2.0, None, None, True, 0.9, False),
        (REMOVE, 9.0, -3.0, None, True, 0.9, False),  # the joint model says that it belongs
        (REMOVE, 9.0, 4.0, None, True, 0.9, True),
        (REMOVE, 9.0, None, 0.99, True, 0.9, False),  # the network was sure
        (REMOVE, 9.0, None, 0.8, True, 0.9, True),
        (REMOVE, 9.0, None, None, True, 0.1, False),  # the fit explains next to nothing of the surface
        (REMOVE, 9.0, 4.0, None, True, 0.1, True),  # but the joint model agrees
        (ADD, -5.0, None, None, False, 0.9, True),
        (ADD, -5.0, None, None, False, 0.2, False),  # the fit explains too little of the surface
        (ADD, -5.0, 2.0, None, False, 0.9, False),
        (ADD, -9.0, -9.0, None, False, 0.9, True),
    ],
)
def test_decisions(kind, fit, context, probability, island, sound, accepted):
    decision, reason = decide(kind, fit, context, probability, "", island, Soundness(sound), LIMITS)
    assert decision is accepted and len(reason) > 10


@pytest.mark.parametrize("head", ["image", "mask"])
@pytest.mark.parametrize("context_mm", [None, -9.0, 9.0])
def test_a_voxel_head_decides_for_itself(context_mm, head):
    def decision(kind, probability):
        return decide(kind, 1.5, context_mm, probability, head, False, Soundness(0.9), LIMITS)

    assert decision(REMOVE, 0.02) == (True, f"{head} evidence against it (mean probability 0.02)")
    assert decision(ADD, 0.98) == (True, f"{head} evidence for it (mean probability 0.98)")


@pytest.mark.parametrize(
    ("island", "fit_mm", "context_mm", "accepted"),
    [(True, 3.0, None, False), (True, 3.0, 2.0, False), (True, 3.0, -2.0, True), (True, -1.0, None, True)]
    + [(False, 3.0, None, True)],
)
def test_a_part_that_nothing_but_the_image_speaks_for_is_not_added(island, fit_mm, context_mm, accepted):
    """It touches nothing, and neither fit nor joint model expects anything there."""
    found, reason = decide(ADD, fit_mm, context_mm, 0.98, "image", island, Soundness(0.9), LIMITS)
    assert found is accepted and ("touches nothing" in reason) is not accepted


def test_a_fit_that_hardly_resembles_the_mask_only_removes_islands_by_itself():
    """A fit in the wrong place, or of a shape unknown to the prior, may touch most of a mask's surface."""
    odd = Soundness(near=0.9, dice=0.7)

    def decision(kind, context_mm=None, probability=None, island=False):
        fit_mm = -9.0 if kind == ADD else 9.0
        return decide(kind, fit_mm, context_mm, probability, "", island, odd, LIMITS)

    refused = (False, "the mask's Dice with its fit is 0.70: too little to change it by shape alone")
    assert decision(ADD) == decision(REMOVE) == refused
    assert decision(ADD, context_mm=-4.0)[0] and decision(REMOVE, context_mm=4.0)[0]
    assert decision(REMOVE, island=True)[0]


def test_reasons_say_on_which_side_of_the_fit_a_region_lies():
    def reason(kind, fit_mm):
        return decide(kind, fit_mm, None, None, "", False, Soundness(), LIMITS)[1]

    assert reason(ADD, -5.0).startswith("missing part 5.0 mm inside of the fit")
    assert reason(ADD, 1.25).startswith("missing part 1.2 mm outside of the fit")
    assert reason(REMOVE, -1.25).startswith("excess 1.2 mm inside of the fit")


def test_regions_are_judged_one_by_one():
    mask = np.zeros((40, 20, 20), bool)
    mask[5:20, 5:15, 5:15] = True
    mask[32:36, 8:12, 8:12] = True  # an island
    proposal = mask.copy()
    proposal[32:36, 8:12, 8:12] = False
    proposal[20:24, 5:15, 5:15] = True  # an addition which the fit hardly supports
    s_fit = np.full(mask.shape, -1.0)
    s_fit[32:36] = 14.0
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    refused, specks, regions = judge_regions(mask, proposal, s_fit, affine, replace(LIMITS, min_region_mm3=10.0))
    assert [(r.kind, r.island, r.accepted) for r in regions] == [(REMOVE, True, True), (ADD, False, False)]
    assert refused[20:24, 5:15, 5:15].all() and refused.sum() == 400 and not specks.any()
    assert regions[0].volume_mm3 == 64.0 and regions[0].centre_world == (33.5, 9.5, 9.5)


def test_specks_are_left_alone():
    mask = np.zeros((10, 10, 10), bool)
    mask[5, 5, 5] = True
    proposal = np.zeros_like(mask)
    refused, specks, regions = judge_regions(mask, proposal, np.full(mask.shape, 9.0), np.eye(4), LIMITS)
    assert specks[5, 5, 5] and specks.sum() == 1 and not refused.any() and not regions


def test_far_slabs_of_an_attached_excess_are_no_islands():
    mask = np.zeros((70, 8, 8), bool)
    mask[5:65, 2:6, 2:6] = True
    proposal = mask.copy()
    proposal[20:] = False
    _, _, regions = judge_regions(mask, proposal, np.full(mask.shape, 9.0), np.eye(4), LIMITS)
    assert len(regions) == 4 and not any(region.island for region in regions)
    mask[20:22] = False  # now it is detached
    _, _, regions = judge_regions(mask, proposal & mask, np.full(mask.shape, 9.0), np.eye(4), LIMITS)
    assert len(regions) == 4 and all(region.island for region in regions)


@pytest.mark.parametrize(
    "affine", [np.eye(4), np.array([[0, -1.5, 0, 9], [2.0, 0, 0, 3], [0, 0, 1, -5], [0, 0, 0, 1]])]
)
def test_what_lies_beyond_the_box_is_judged_too(affine):
    """An end that goes on beyond the box, an island there that the joint model knows, one that it does not, a speck."""
    mask = np.zeros((60, 30, 12), bool)
    mask[2:16, 10:16, 3:9] = True
    mask[30:36, 20:26, 3:9] = True
    mask[50:56, 2:8, 3:9] = True
    mask[58, 28, 10] = True
    box = (slice(0, 12), slice(0, 30), slice(0, 12))

    def x_of(points_world):
        return ((points_world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T)[:, 0]

    removed, regions = judge_beyond(
        mask, box, affine, LIMITS, x_of, context_mm_at=lambda p: np.where(np.abs(x_of(p) - 33) < 5, -4.0, 4.0)
    )
    assert [(r.island, r.accepted) for r in regions] == [(False, True), (True, False), (True, True), (True, True)]
    expected = mask.copy()
    expected[box] = False
    expected[30:36, 20:26] = False
    taken = np.zeros_like(mask)
    taken[tuple(removed.T)] = True
    np.testing.assert_array_equal(taken, expected)
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    assert [r.volume_mm3 for r in regions] == pytest.approx([n * voxel_mm3 for n in (144, 216, 216, 1)])
    assert "excess" in regions[0].reason and "other structures" in regions[1].reason and "1 specks" in regions[3].reason
    np.testing.assert_allclose(regions[2].centre_world, affine[:3, :3] @ [52.5, 4.5, 5.5] + affine[:3, 3], atol=0.06)
    none, nothing = judge_beyond(mask, (slice(0, 60),) * 3, affine, LIMITS, x_of)
    assert none.shape == (0, 3) and not nothing


def test_an_accepted_change_is_followed_to_the_target_nearby_only():
    x = np.arange(30.0)[:, None, None] * np.ones((1, 3, 3))
    mask = x < 10
    target = x - 20.0  # the organ goes on to 20
    fused = np.where(x < 17, -1.0, 1.0)  # the fusion stops short of it
    refused = np.zeros(mask.shape, bool)
    followed = follow(fused, mask, target, np.ones(3), 2.0, refused)
    assert ((followed < 0) == (x < 19)).all()
    same = np.where(mask, -1.0, 1.0)
    assert (follow(same, mask, target, np.ones(3), 2.0, refused) == same).all()
    refused[18:, 0] = True  # what the gate refused stays, though a change beside it was accepted
    followed = follow(fused, mask, target, np.ones(3), 2.0, refused)
    assert ((followed < 0) == (x < 19) & ~(refused & (x > 17))).all()


@pytest.mark.parametrize("radius_mm", [10.0, 70.0])
def test_depths_are_the_same_shares_of_every_shapes_radius(radius_mm):
    settings = RefineSettings.load("default", island_radii=0.05, excess_radii=0.3, missing_radii=0.2)
    limits = Limits.of(settings, radius_mm, 30.0, 1e-3)
    found = (limits.island_mm, limits.excess_mm, limits.missing_mm)
    assert found == pytest.approx((0.05 * radius_mm, 0.3 * radius_mm, 0.2 * radius_mm))
    assert decide(REMOVE, 0.31 * radius_mm, None, None, False, False, ALL_SOUND, limits)[0]
    assert not decide(REMOVE, 0.29 * radius_mm, None, None, False, False, ALL_SOUND, limits)[0]


@pytest.mark.parametrize(("kind", "side"), [(REMOVE, 1.0), (ADD, -1.0)])
def test_half_the_depth_is_enough_where_the_joint_model_says_the_same(kind, side):
    fit_mm = side * 0.6 * (LIMITS.excess_mm if kind == REMOVE else LIMITS.missing_mm)
    for context_mm, accepted in ((None, False), (side * 3.0, True), (-side * 3.0, False)):
        assert decide(kind, fit_mm, context_mm, None, False, False, ALL_SOUND, LIMITS)[0] is accepted
    assert not decide(kind, 0.8 * fit_mm, side * 3.0, None, False, False, ALL_SOUND, LIMITS)[0]


@pytest.mark.parametrize(("kind", "fit_mm"), [(ADD, -1.4), (ADD, -1.6), (REMOVE, 1.4), (REMOVE, 1.6)])
def test_beside_a_joint_model_no_depth_is_less_than_a_voxel_and_a_half(kind, fit_mm):
    """A shape of 6 mm radius: 0.11 and 0.1 of that, and half of these, lie within a voxel of 1 mm."""
    limits = Limits.of(RefineSettings.load("default"), 6.0, 0.0, 1.0)
    accepted, _ = decide(kind, fit_mm, fit_mm, None, False, kind == REMOVE, Soundness(), limits)
    assert accepted is (abs(fit_mm) > 1.5)
