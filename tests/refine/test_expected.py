"""What the readers of an image expect of a mask: balls and steps, of which Dice and distances are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance

from scripts.geometry.boxed import BoxedMask
from scripts.refine.expected import Expected, readers_of

SHAPE = (32, 32, 32)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
WHOLE = tuple(slice(0, n) for n in SHAPE)


def ball(radius: float, centre: float = 15.5) -> np.ndarray:
    return np.linalg.norm(np.indices(SHAPE) - np.reshape([centre, 15.5, 15.5], (3, 1, 1, 1)), axis=0) < radius


def figures(mask: np.ndarray, probability: np.ndarray, radius_mm: float = 10.0) -> dict:
    return Expected("head", probability.astype(np.float32), WHOLE, mask, AFFINE).figures(mask, radius_mm)


def test_a_reader_that_is_sure_of_a_mask_expects_it_to_be_right():
    found = figures(ball(8), np.where(ball(8), 1.0, 0.0))
    assert found == {"head_dice": 1.0, "head_hd95": 0.0}


def test_the_expected_dice_is_that_of_the_truths_that_the_probabilities_allow():
    mask, sure, likely = ball(8), ball(6), 0.7
    found = figures(mask, np.where(sure, 1.0, np.where(mask, likely, 0.0)))
    size, rim = mask.sum(), (mask & ~sure).sum()
    expected = 2 * (sure.sum() + likely * rim) / (size + sure.sum() + likely * rim)
    assert found["head_dice"] == pytest.approx(expected, abs=1e-4)
    assert found["head_hd95"] == 0.0  # the likelier voxels are the mask


def test_a_mask_that_lacks_what_is_likely_is_expected_to_be_worse():
    likely = np.where(ball(8), 0.9, 0.0)
    found = figures(ball(6), likely)
    assert found["head_dice"] < figures(ball(8), likely)["head_dice"] - 0.2
    assert found["head_hd95"] == pytest.approx(2 * 2.0 / 10.0, abs=0.1)  # two voxels of 2 mm, over the radius


def test_the_distance_is_monai_s_on_an_oblique_grid_of_long_voxels():
    spacing = np.array([1.0, 1.5, 3.0])
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, (5.0, -20.0, 7.0)
    mask, likely = ball(6) | ball(2, 26), ball(8)
    found = Expected("head", np.where(likely, 0.9, 0.0).astype(np.float32), WHOLE, mask, affine).figures(mask, 10.0)
    pair = [torch.from_numpy(one[None, None].astype(np.float32)) for one in (mask, likely)]
    hd95_mm = float(compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing)))
    assert found["head_hd95"] == pytest.approx(hd95_mm / 10.0, rel=0.05)


def test_distances_are_shares_of_the_radius():
    small, large = (figures(ball(6), np.where(ball(8), 0.9, 0.0), radius)["head_hd95"] for radius in (10.0, 20.0))
    assert small == pytest.approx(2 * large, abs=1e-3)


def test_an_island_counts_for_the_distance():
    leak = ball(8) | ball(3, 28)
    assert figures(leak, np.where(ball(8), 0.9, 0.0))["head_hd95"] > 0.5


@pytest.mark.parametrize("mask", [ball(8), np.zeros(SHAPE, bool)])
def test_where_there_is_no_surface_there_is_no_distance(mask):
    found = figures(mask, np.full(SHAPE, 0.1))
    assert found["head_hd95"] is None and found["head_dice"] < 0.2


def structure(mask, head=None, second=None):
    """What `readers_of` takes of a structure whose box is the grid but for a margin of four voxels."""
    box = tuple(slice(4, n - 4) for n in SHAPE)

    def cut(values):
        return None if values is None else values[box].astype(np.float32)

    def known(name, grid):
        np.testing.assert_array_equal(grid.affine[:3, 3], [8.0, 8.0, 8.0])  # of the box
        assert name == "ball" and grid.shape == (24, 24, 24)
        return cut(second)

    seen = SimpleNamespace(second=SimpleNamespace(known=known))
    fitted = SimpleNamespace(name="ball", affine=AFFINE, mask=BoxedMask.of(mask), seen=seen)
    return fitted, SimpleNamespace(box=box, probability=cut(head))


def test_both_readers_are_asked_in_the_box_of_all_voxels():
    mask, truth = ball(8), ball(7)
    said = np.where(truth, 0.9, 0.1)
    head, second = readers_of(*structure(mask, said, np.where(truth, 0.8, 0.2)), BoxedMask(SHAPE, WHOLE, mask))
    assert (head.reader, second.reader) == ("head", "second")
    assert head.said.shape == second.said.shape == (24, 24, 24) and head.at == second.at
    assert head.said[11, 11, 11] == np.float32(0.9) and second.said[11, 11, 11] == np.float32(0.8)


def test_beyond_what_they_say_the_refined_mask_stands():
    initial = ball(8) | ball(1.5, 2)
    refined = ball(8)
    said = np.where(ball(8), 1.0, 0.0)
    said[14, 15, 15] = np.nan
    (head,) = readers_of(*structure(initial, said), BoxedMask(SHAPE, WHOLE, refined))
    size, island = int(refined.sum()), int((initial & ~refined).sum())
    assert head.figures(refined, 10.0)["head_dice"] == 1.0
    assert head.figures(initial, 10.0)["head_dice"] == pytest.approx(2 * size / (2 * size + island), abs=1e-4)
    (kept,) = readers_of(*structure(initial, said), BoxedMask(SHAPE, WHOLE, initial))
    assert kept.figures(initial, 10.0) == {"head_dice": 1.0, "head_hd95": 0.0}


def test_a_network_does_not_judge_its_own_mask():
    mask = ball(8)
    own = np.where(mask, 0.9, 0.1)
    assert [one.reader for one in readers_of(*structure(mask, own, own), BoxedMask(SHAPE, WHOLE, mask))] == ["head"]


def test_without_an_image_nobody_says_anything():
    mask = ball(8)
    assert list(readers_of(*structure(mask, None, np.where(mask, 0.9, 0.1)), BoxedMask(SHAPE, WHOLE, mask))) == []
    silent = np.full(SHAPE, np.nan)
    assert list(readers_of(*structure(mask, silent), BoxedMask(SHAPE, WHOLE, mask))) == []
