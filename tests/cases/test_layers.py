"""Segments of several layers as one label map."""

import numpy as np
import pytest

from scripts.cases.layers import read_segments, with_changes
from scripts.cases.nrrd_file import Segment

KIDNEY, CYST, LIVER, VESSEL = Segment("kidney", 1, 0), Segment("cyst", 1, 1), Segment("liver", 2, 1), Segment("v", 3, 1)


def row(*layers):
    """Layers (X, 1, 1, layers)."""
    return np.array(layers, np.uint8).T[:, None, None, :]


def test_segments_of_one_label_may_overlap_and_change_together():
    layers = row([1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 2, 2, 3, 0])  # the cyst lies in the kidney
    numbers, places, meaning = read_segments(layers, [(KIDNEY, 1), (CYST, 1), (LIVER, 2)])
    assert numbers.ravel().tolist() == [1, 1, 1, 3, 3, 4, 0] and meaning == {1: 1, 2: 1, 3: 2}
    refined = np.array([1, 0, 3, 3, 1, 4, 3], np.int32)[:, None, None]
    done = with_changes(layers, places, refined != numbers, refined)
    assert done[..., 0].ravel().tolist() == [1, 0, 0, 0, 1, 0, 0]
    assert done[..., 1].ravel().tolist() == [0, 0, 2, 2, 0, 3, 2]  # the vessel stays


def test_other_segments_keep_their_voxels():
    layers = row([1, 1, 0], [0, 3, 2])  # a vessel of no interest lies in the kidney
    numbers, places, _ = read_segments(layers, [(KIDNEY, 1), (LIVER, 2)])
    refined = np.array([1, 2, 2], np.int32)[:, None, None]
    done = with_changes(layers, places, refined != numbers, refined)
    assert done[..., 0].ravel().tolist() == [1, 0, 0] and done[..., 1].ravel().tolist() == [0, 3, 2]


def test_segments_of_two_labels_that_overlap_are_named():
    with pytest.raises(ValueError, match="kidney and liver overlap"):
        read_segments(row([1, 1, 0], [0, 2, 2]), [(KIDNEY, 1), (LIVER, 2)])
