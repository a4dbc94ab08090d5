import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.refine.fusion import ADD, REMOVE, cut_regions, decide, follow, fuse, judge_regions
from scripts.refine.settings import RefineSettings

LIMITS = RefineSettings.load("default")


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
    labels, count = cut_regions(change, np.diag([1.0, 1.0, 2.0, 1.0]), slab_mm=10.0)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    assert count == 5 and sizes.min() == 8 and sizes.sum() == change.sum()
    assert (labels[change] > 0).all() and not labels[~change].any()


@pytest.mark.parametrize(
    ("kind", "fit", "context", "probability", "own", "island", "sound", "accepted"),
    [
        (REMOVE, 9.0, None, None, False, True, 0.9, True),
        (REMOVE, 2.0, None, None, False, True, 0.9, False),
        (REMOVE, 9.0, -3.0, None, False, True, 0.9, False),  # the joint model says that it belongs
        (REMOVE, 9.0, 4.0, 0.95, False, True, 0.9, False),  # the image says that it belongs
        (REMOVE, 9.0, 4.0, 0.6, False, True, 0.9, True),  # the image does not say
        (REMOVE, 2.0, -1.0, 0.05, False, False, 0.1, True),
        (REMOVE, 9.0, None, 0.99, True, True, 0.9, False),  # the network was sure
        (REMOVE, 9.0, None, 0.8, True, True, 0.9, True),
        (ADD, -5.0, None, None, False, False, 0.9, True),
        (ADD, -5.0, None, None, False, False, 0.2, False),  # the fit explains too little of the surface
        (ADD, -5.0, 2.0, None, False, False, 0.9, False),
        (ADD, -1.0, None, 0.95, False, False, 0.9, True),
        (ADD, -9.0, -9.0, 0.05, False, False, 0.9, False),
        (ADD, -9.0, -9.0, 0.2, False, False, 0.9, True),
    ],
)
def test_decisions(kind, fit, context, probability, own, island, sound, accepted):
    decision, reason = decide(kind, fit, context, probability, own, island, sound, LIMITS)
    assert decision is accepted and len(reason) > 10


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
    refused, regions = judge_regions(
        mask, proposal, s_fit, affine, RefineSettings.load(slab_mm=50.0, min_region_mm3=10.0)
    )
    assert [(r.kind, r.island, r.accepted) for r in regions] == [(REMOVE, True, True), (ADD, False, False)]
    assert refused[20:24, 5:15, 5:15].all() and refused.sum() == 400
    assert regions[0].volume_mm3 == 64.0 and regions[0].centre_world == (33.5, 9.5, 9.5)


def test_specks_are_left_alone():
    mask = np.zeros((10, 10, 10), bool)
    mask[5, 5, 5] = True
    proposal = np.zeros_like(mask)
    refused, regions = judge_regions(mask, proposal, np.full(mask.shape, 9.0), np.eye(4), LIMITS)
    assert refused[5, 5, 5] and not regions


def test_an_accepted_change_is_followed_to_the_target_nearby_only():
    x = np.arange(30.0)[:, None, None] * np.ones((1, 3, 3))
    mask = x < 10
    target = x - 20.0  # the organ goes on to 20
    fused = np.where(x < 17, -1.0, 1.0)  # the fusion stops short of it
    followed = follow(fused, mask, target, np.ones(3), reach_mm=2.0)
    assert ((followed < 0) == (x < 19)).all()
    assert (follow(np.where(mask, -1.0, 1.0), mask, target, np.ones(3), 2.0) == np.where(mask, -1.0, 1.0)).all()
