"""What the readers of an image expect of a mask, and by how much that is moved."""

import numpy as np

from scripts.quality.features import features
from scripts.quality.predictor import targets_of
from scripts.quality.reader_rule import ReaderRule

RADIUS_MM = 10.0
UNMOVED = ReaderRule(np.zeros((2, 2)), np.array([0.3, 0.5]))


def told(head: float, second: float | None = None, hd95: float | None = 0.5) -> np.ndarray:
    other = {"second_dice": second, "second_hd95": None if second is None else 0.4}
    return features({"head_dice": head, "head_hd95": hd95, **other}, "image")


def test_unmoved_it_is_what_the_second_reader_expects_or_else_the_head():
    mean, spread = UNMOVED.raw(np.stack([told(0.8), told(0.8, 0.7)]))
    np.testing.assert_allclose(mean, [targets_of(80, 5, RADIUS_MM), targets_of(70, 4, RADIUS_MM)], rtol=1e-4)
    np.testing.assert_array_equal(spread, [[0.3, 0.5]] * 2)


def test_where_no_distance_is_known_it_is_as_large_as_the_organ():
    mean, _ = UNMOVED.raw(told(0.1, hd95=None)[None])
    assert mean[0, 1] == 0.0 and np.isfinite(mean).all()


def test_each_reader_is_moved_by_the_median_organ():
    values = np.stack([told(head, second) for head in (0.7, 0.8, 0.9) for second in (None, 0.75) for _ in range(4)])
    by_second = np.isfinite(values[:, 2])
    organs = np.array(["a", "b", "c", "c"] * 6)
    off = np.array([{"a": 0.2, "b": 0.5, "c": 3.0}[organ] for organ in organs])
    expected = UNMOVED.raw(values)[0]
    logit = expected[:, 0] - np.where(by_second, 0.1, off)
    hd95 = np.exp(expected[:, 1]) + np.where(by_second, 0.05, off)
    found = ReaderRule.fitted(values, np.stack([logit, np.log(hd95)], 1), list(organs))
    np.testing.assert_allclose(found.shift, [[-0.5, 0.5], [-0.1, 0.05]], atol=1e-5)
    left = np.where(by_second, 0.0, off - 0.5)
    spread = np.sqrt(np.mean([(left[organs == organ] ** 2).mean() for organ in "abc"]))
    np.testing.assert_allclose(found.spread[0], spread, rtol=1e-5)
    mean = found.raw(values)[0]
    np.testing.assert_allclose(mean[:, 0], expected[:, 0] - np.where(by_second, 0.1, 0.5), rtol=1e-5)
    np.testing.assert_allclose(np.exp(mean[:, 1]), np.exp(expected[:, 1]) + np.where(by_second, 0.05, 0.5), rtol=1e-5)


def test_a_reader_of_whom_nothing_is_known_is_not_moved():
    values = np.stack([told(0.8), told(0.9)])
    found = ReaderRule.fitted(values, UNMOVED.raw(values)[0] - [0.4, 0.0], ["a", "a"])
    np.testing.assert_allclose(found.shift, [[-0.4, 0.0], [0.0, 0.0]], atol=1e-6)
