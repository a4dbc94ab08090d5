"""Counting the values of label maps."""

import numpy as np
import pytest

from scripts.cases import labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64, np.float32])
def test_labels_are_counted(dtype, monkeypatch):
    monkeypatch.setattr(labels, "COUNTED_AT_ONCE", 7)
    values = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(dtype)
    values[0, 0, 0] = 250
    found, counts = np.unique(values, return_counts=True)
    expected = dict(zip(found.tolist(), counts.tolist(), strict=True))
    assert labels.label_counts(values) == labels.label_counts(np.asfortranarray(values)) == expected
    assert labels.label_values(values[:0]) == []


def test_negative_and_huge_labels_are_counted():
    assert labels.label_counts(np.array([-3, 7, 7], np.int16)) == {-3: 1, 7: 2}
    assert labels.label_counts(np.array([-(2**40), 0, 2**40])) == {-(2**40): 1, 0: 1, 2**40: 1}


@pytest.mark.parametrize(
    ("low", "high", "highest", "expected"),
    [
        (0, 127, 0, np.int8),
        (-1, 128, 0, np.int16),
        (0, 5, 200, np.int16),  # a label of the pack that is not in this map can be written into it
        (-32769, 0, 0, np.int32),
        (0, 2**31 - 1, 0, np.int32),
    ],
)
def test_label_maps_are_kept_in_the_smallest_type_that_holds_them(low, high, highest, expected):
    values = np.array([low, high], np.int32)
    kept = labels.narrow(values, highest)
    assert kept.dtype == expected and kept.tolist() == [low, high]
