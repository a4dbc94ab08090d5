"""What the readers of an image expect of a mask, and by how much that is moved."""

import numpy as np

from scripts.quality.features import features
from scripts.quality.predictor import targets_of
from scripts.quality.reader_rule import ReaderRule

RADIUS_MM = 10.0
UNMOVED = ReaderRule({"": np.zeros((2, 2))}, np.array([0.3, 0.5]))


def told(head: float, second: float | None = None, hd95: float | None = 0.5) -> np.ndarray:
    other = {"second_dice": second, "second_hd95": None if second is None else 0.4}
    return features({"head_dice": head, "head_hd95": hd95, **other}, "image")


def test_unmoved_it_is_what_the_second_reader_expects_or_else_the_head():
    mean, spread = UNMOVED.raw(np.stack([told(0.8), told(0.8, 0.7)]), "ball")
    np.testing.assert_allclose(mean, [targets_of(80, 5, RADIUS_MM), targets_of(70, 4, RADIUS_MM)], rtol=1e-4)
    np.testing.assert_array_equal(spread, [[0.3, 0.5]] * 2)


def test_where_no_distance_is_known_it_is_as_large_as_the_organ():
    mean, _ = UNMOVED.raw(told(0.1, hd95=None)[None], "ball")
    assert mean[0, 1] == 0.0 and np.isfinite(mean).all()


def test_each_organ_s_readers_are_moved_and_those_of_others_by_the_median_organ():
    values = np.stack([told(head, second) for head in (0.7, 0.8, 0.9) for second in (None, 0.75) for _ in range(4)])
    by_second = np.isfinite(values[:, 2])
    organs = np.array(["a", "b", "c", "c"] * 6)
    off = np.array([{"a": 0.2, "b": 0.5, "c": 3.0}[organ] for organ in organs])
    expected = UNMOVED.raw(values, "a")[0]
    logit = expected[:, 0] - np.where(by_second, 0.1, off)
    hd95 = np.exp(expected[:, 1]) + np.where(by_second, 0.05, off)
    noise = np.random.default_rng(0).permutation(np.linspace(-0.01, 0.01, len(values)))
    found = ReaderRule.fitted(values, np.stack([logit + noise, np.log(hd95)], 1), list(organs))
    assert list(found.shift) == ["", "a", "b", "c"]
    for organ, by in (("a", 0.2), ("b", 0.5), ("c", 3.0), ("", 0.5)):
        np.testing.assert_allclose(found.shift[organ], [[-by, by], [-0.1, 0.05]], atol=0.01)
    assert 0.0 < found.spread[0] < 0.02 and found.spread[1] < 1e-5
    for organ, by in (("c", 3.0), ("other", 0.5)):
        mean = found.raw(values, organ)[0]
        np.testing.assert_allclose(mean[:, 0], expected[:, 0] - np.where(by_second, 0.1, by), atol=0.01)
        np.testing.assert_allclose(
            np.exp(mean[:, 1]), np.exp(expected[:, 1]) + np.where(by_second, 0.05, by), atol=0.01
        )


def test_a_reader_of_whom_nothing_is_known_is_moved_as_elsewhere_or_not():
    values = np.stack([told(0.8), told(0.9), told(0.9, 0.8)])
    targets = UNMOVED.raw(values, "")[0] - [0.4, 0.0]
    alone = ReaderRule.fitted(values[:2], targets[:2], ["a", "a"])
    np.testing.assert_allclose(alone.shift["a"], [[-0.4, 0.0], [0.0, 0.0]], atol=1e-6)
    both = ReaderRule.fitted(values, targets, ["a", "a", "b"])
    np.testing.assert_allclose(both.shift["b"], [[-0.4, 0.0], [-0.4, 0.0]], atol=1e-6)
