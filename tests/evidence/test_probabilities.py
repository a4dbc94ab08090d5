"""Evidence from a network's probabilities."""

import numpy as np
import pytest

from scripts.evidence.probabilities import evidence_from_probabilities
from scripts.organ.pack import OrganPack
from tests.helpers.pairs import grid, kidneys, label_map, world, write_pack


def test_each_side_has_its_own_probabilities(tmp_path):
    """The labels' probabilities are added; what one side has at the other one's place is none of its own."""
    pack = OrganPack.load(write_pack(tmp_path))
    shape, affine = grid("oblique", "anisotropic")
    points = world(shape, affine)
    labels, both = label_map(points), kidneys(points)
    prob = np.stack([0.2 + 0.6 * (labels == value) for value in range(3)]).astype(np.float32)
    found = evidence_from_probabilities(prob, labels, affine, pack)
    left, right = (found.probability[f"kidney_{side}"] for side in ("left", "right"))
    np.testing.assert_allclose(left[both["left"]], 1.0)
    np.testing.assert_allclose(right[both["right"]], 1.0)
    assert not left[both["right"]].any() and not right[both["left"]].any()
    np.testing.assert_allclose(left + right, prob[1] + prob[2])
    prob[:, :2] = 0.0  # the network saw nothing there
    unseen = evidence_from_probabilities(prob, labels, affine, pack).probability["kidney_left"]
    assert np.isnan(unseen[:2]).all() and not np.isnan(unseen[2:]).any()
    with pytest.raises(ValueError, match="expected 3 probability channels"):
        evidence_from_probabilities(prob[:2], labels, affine, pack)
