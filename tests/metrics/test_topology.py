"""Components, holes and volume of masks whose counts are known by construction."""

import numpy as np
import pytest

from scripts.metrics.topology import count_components, count_holes, volume_ml


def test_components_touch_by_corners():
    mask = np.zeros((8, 8, 8), bool)
    assert count_components(mask) == 0
    mask[1, 1, 1] = mask[2, 2, 2] = True
    assert count_components(mask) == 1
    mask[5:, 5:, 5:] = True
    mask[0, 7, 0] = True
    assert count_components(mask) == 3


def test_holes_are_enclosed_cavities():
    mask = np.zeros((12, 12, 12), bool)
    assert count_holes(mask) == 0
    mask[2:10, 2:10, 2:10] = True
    assert count_holes(mask) == 0
    mask[3:5, 3:5, 3:5] = False
    mask[6, 6, 6] = False
    assert count_holes(mask) == 2
    mask[5, 5, 5] = False  # touches both by a corner only: cavities join by faces
    assert count_holes(mask) == 3
    mask[3, 3, 2] = False  # opens the first one
    assert count_holes(mask) == 2


def test_a_tunnel_and_a_dent_are_no_holes():
    mask = np.ones((9, 9, 9), bool)
    mask[4, 4, :] = False
    mask[0, 2, 2] = False
    assert count_holes(mask) == 0
    mask[4, 4, [0, 8]] = True
    assert count_holes(mask) == 1


def test_volume_in_ml():
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[:5, :4, :5] = 1
    assert volume_ml(mask, (1, 2, 2.5)) == pytest.approx(0.5)
    assert volume_ml(np.zeros_like(mask), (1, 1, 1)) == 0
