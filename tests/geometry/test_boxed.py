import numpy as np
import pytest

from scripts.geometry.boxed import BoxedMask

BOXES = [
    (slice(0, 20), slice(0, 16), slice(0, 12)),
    (slice(3, 7), slice(2, 9), slice(5, 6)),  # reaches into the mask from one side
    (slice(15, 20), slice(0, 3), slice(0, 12)),  # beside it
    (slice(6, 8), slice(5, 7), slice(4, 6)),  # within it
]


@pytest.fixture(params=["C", "F"])
def mask(request) -> np.ndarray:
    result = np.zeros((20, 16, 12), bool, order=request.param)
    result[5:10, 4:9, 3:8] = np.random.default_rng(0).random((5, 5, 5)) < 0.7
    return result


@pytest.mark.parametrize("box", BOXES)
def test_every_box_of_a_boxed_mask_is_that_of_the_whole(mask, box):
    boxed = BoxedMask.of(mask)
    np.testing.assert_array_equal(boxed[box], mask[box])
    np.testing.assert_array_equal(boxed.whole(), mask)
    assert boxed.count == mask.sum() and boxed.part.size <= 125


@pytest.mark.parametrize("box", BOXES)
def test_what_is_put_and_removed_is_changed_in_the_copy_only(mask, box):
    boxed = BoxedMask.of(mask)
    wider = boxed.around(box)
    wider.remove(np.argwhere(mask)[:3])
    wider.put(box, np.ones((), bool))
    expected = mask.copy()
    expected[tuple(np.argwhere(mask)[:3].T)] = False
    expected[box] = True
    np.testing.assert_array_equal(wider.whole(), expected)
    np.testing.assert_array_equal(boxed.whole(), mask)


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="empty"):
        BoxedMask.of(np.zeros((3, 3, 3), bool))
