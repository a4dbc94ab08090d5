"""What makes a mask of an unsigned distance."""

import numpy as np
import pytest
import torch

from scripts.peers.nudf import NUDF, close, signed_distance
from tests.helpers.blobs import blob_task, blobs

PLACES = np.stack(np.meshgrid(*[np.arange(32.0)] * 3, indexing="ij"), -1)


def to_ball(radius: float, centre=(15.3, 15.7, 15.1)) -> np.ndarray:
    """Signed distance to a ball's surface in voxels, inside positive."""
    return radius - np.linalg.norm(PLACES - centre, axis=-1)


@pytest.mark.parametrize("floor", [0.0, 0.6])  # a network's distance does not reach 0
def test_an_unsigned_distance_is_closed_to_the_mask_it_came_from(floor):
    signed = to_ball(9.0)
    mask = close(np.maximum(np.abs(signed), floor))
    assert not (mask != (signed > 0))[np.abs(signed) > 1.0].any()
    assert abs(mask.sum() / (signed > 0).sum() - 1.0) < 0.1


def test_a_hole_in_the_surface_does_not_let_the_outside_in():
    signed = to_ball(9.0)
    hole = np.linalg.norm(PLACES - (15.3, 15.7, 24.1), axis=-1) < 1.5
    mask = close(np.abs(signed) + 1.2 * hole)
    assert (mask & (signed > 0)).sum() > 0.95 * (signed > 0).sum()
    assert not mask[signed < -2.0].any()


def test_two_bodies_are_both_found_and_none_where_there_is_none():
    both = np.maximum(to_ball(5.0, (8.0, 8.0, 8.0)), to_ball(6.0, (22.0, 22.0, 22.0)))
    mask = close(np.abs(both))
    assert not (mask != (both > 0))[np.abs(both) > 1.0].any()
    assert not close(np.full((16, 16, 16), 5.0)).any()
    assert not close(np.zeros((16, 16, 16))).any()


def test_distances_are_in_mm_and_half_a_voxel_from_the_border():
    mask = np.zeros((12, 12, 12), bool)
    mask[6:] = True
    found = signed_distance(mask, (2.0, 3.0, 4.0))[:, 5, 5]
    np.testing.assert_allclose(found, 2.0 * (np.arange(12) - 6) + 1.0)
    assert (signed_distance(np.zeros((4, 4, 4), bool), (1.0, 1.0, 1.0)) == -np.inf).all()


def test_a_perfect_distance_costs_nothing_and_gives_the_mask_back():
    peer = NUDF(blob_task()).eval()
    labels = blobs(1, seed=0)[0]["label"][None]
    signed = peer.signed(labels)
    peer.distances = lambda levels, points: _at(signed, points)
    images = torch.zeros(1, 1, 24, 24, 24)
    assert peer.loss(images, labels, 0.5).item() < 1e-6
    scores = peer.predict(images)
    wrong = scores.argmax(1, keepdim=True) != labels
    assert not wrong[0, 0][signed[0, 0].abs() * 24.0 > 1.0].any() and wrong.sum() < 0.05 * labels.sum()
    near = ~wrong & (24.0 * signed.abs() < 3.0)
    torch.testing.assert_close(scores[:, 1:][near], 24.0 * signed[near])  # voxels


def _at(signed: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    turned = points.flip(-1)[:, :, None, None]
    found = torch.nn.functional.grid_sample(signed, turned, padding_mode="border", align_corners=False)
    return found[..., 0, 0].abs()
