"""What a voxel head proposes: of a poor mask the likelier; of others sure odds, and thin changes beside deep ones."""

import numpy as np
import pytest

from scripts.geometry.surface import mask_signed_distance, with_neighbours
from scripts.refine.odds import SURE, follow_odds, is_of_network, proposed, with_network


def test_an_image_overrules_a_mask_by_sure_odds_only():
    mask = np.array([True, True, True, True, False, False, False, False])
    odds = np.array([9.0, 0.51, 0.49, np.nan, 2.01, 1.99, 0.1, np.nan])
    assert follow_odds(mask, np.log(odds), SURE).tolist() == [True, True, False, True, True, False, False, False]
    assert follow_odds(mask, np.log(odds)).tolist() == [True, False, False, True, True, True, False, False]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (1.0, 1.0, 4.0)])
def test_an_image_that_would_change_the_surface_only_changes_nothing(spacing):
    """A layer of 1 mm here and there, or of one thick slice, on a ball."""
    mask = ball(spacing, 10.0)
    layer = ball(spacing, 11.0) & ~mask
    layer |= np.roll(mask, 1, 2) & ~mask
    proposal = mask | (layer & checkers(mask.shape))
    proposal &= ~(with_neighbours(~mask) & mask & checkers(mask.shape)) if spacing[0] == 1.0 else True
    assert (proposal != mask).sum() > 0.05 * mask.sum()
    assert (by_sure_odds(mask, proposal, np.array(spacing), 1.0) == mask).all()


@pytest.mark.parametrize("hole", [1, 3, 5])
def test_a_closed_hole_is_no_thin_change(hole):
    mask = ball((1.0, 1.0, 1.0), 12.0)
    holed = mask.copy()
    holed[16 : 16 + hole, 16 : 16 + hole, 16 : 16 + hole] = False
    assert (by_sure_odds(holed, mask, np.ones(3), 2.0) == mask).all()


@pytest.mark.parametrize(("depth", "taken"), [(2, "part"), (8, "all")])
def test_thin_changes_count_beside_deep_ones(depth, taken):
    """A bump of two voxels is taken by itself; where much is missing, what the image says of the rest counts, too."""
    mask = ball((1.0, 1.0, 1.0), 10.0)
    deep = np.zeros_like(mask)
    deep[24 : 24 + 3 + depth, 12:18, 12:18] = True
    deep &= ~mask
    thin = ball((1.0, 1.0, 1.0), 11.0) & ~mask & ~with_neighbours(deep)
    thin[18:] = False
    found = by_sure_odds(mask, mask | deep | thin, np.ones(3), 1.0)
    assert (found == (mask | deep if taken == "part" else mask | deep | thin)).all()


@pytest.mark.parametrize(("bite", "poor"), [(0, False), (2, False), (9, True)])
def test_near_the_large_faults_of_a_poor_mask_the_likelier_is_taken(bite, poor):
    """The image is sure of what was bitten off, and hardly of a layer beside that and on the other side."""
    whole, larger = ball((1.0, 1.0, 1.0), 10.0), ball((1.0, 1.0, 1.0), 11.0)
    mask = whole.copy()
    mask[26 - bite :] = False
    log_odds = np.where(whole, 3.0, np.where(larger, np.log(1.5), -3.0))
    found = proposed(mask, mask, log_odds, mask_signed_distance(mask, np.ones(3)), np.ones(3), 1.0)
    assert found.poor == poor
    layer = larger & ~whole
    assert (found.mask[~layer] == whole[~layer]).all()
    assert not found.mask[:12][layer[:12]].any()  # there only odds of 2 to 1 count
    assert found.mask[21:][layer[21:]].any() == poor


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 2.0])
def test_whether_a_mask_is_poor_does_not_depend_on_its_voxels(spacing_mm):
    spacing = np.full(3, spacing_mm)
    whole = ball(spacing, 12.0)
    mask = whole.copy()
    mask[int(20 / spacing_mm) :] = False
    found = proposed(mask, mask, np.where(whole, 3.0, -3.0), mask_signed_distance(mask, spacing), spacing, 2.0)
    assert found.poor


def test_a_network_has_a_say_beside_the_image_but_not_the_last_word():
    log_odds = np.array([-1.0, -1.0, -9.0, -1.0, np.nan])
    probability = np.array([0.999, 0.5, 1.0, np.nan, 1.0])
    assert (with_network(log_odds, probability) > 0).tolist() == [True, False, False, False, False]
    assert np.isnan(with_network(log_odds, probability)).tolist() == [False] * 4 + [True]


def test_a_mask_that_somebody_corrected_is_not_the_network_s():
    mask = ball((1.0, 1.0, 1.0), 10.0)
    probability = np.where(mask, 0.8, 0.1)
    assert is_of_network(mask, probability)
    corrected = mask.copy()
    corrected[22:] = False
    assert not is_of_network(corrected, probability)
    assert not is_of_network(mask, np.zeros(mask.shape)) and not is_of_network(mask, np.full(mask.shape, np.nan))


def by_sure_odds(mask, proposal, spacing, step_mm):
    return proposed(
        mask, mask, np.where(proposal, 3.0, -3.0), mask_signed_distance(mask, spacing), spacing, step_mm
    ).mask


@pytest.mark.parametrize(("probability", "taken"), [(None, False), (0.6, True), (0.001, False)])
def test_thin_changes_of_a_network_s_own_mask_are_taken_where_the_network_was_unsure(probability, taken):
    mask, larger = ball((1.0, 1.0, 1.0), 10.0), ball((1.0, 1.0, 1.0), 11.0)
    log_odds = np.where(larger, 2.0, -3.0)
    network = None if probability is None else np.where(mask, 0.9, np.where(larger, probability, 0.1))
    found = proposed(mask, mask, log_odds, mask_signed_distance(mask, np.ones(3)), np.ones(3), 1.0, network)
    assert (found.mask == (larger if taken else mask)).all() and not found.poor


def ball(spacing, radius_mm):
    shape = [int(32 / h) for h in spacing]
    index = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"), -1)
    return np.linalg.norm(index * np.array(spacing), axis=-1) < radius_mm


def checkers(shape):
    return (np.indices(shape) // 2).sum(0) % 2 == 0
