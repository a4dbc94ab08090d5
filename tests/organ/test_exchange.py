"""Labels of left and right that lie on each other's side are found by where they lie, and by nothing else."""

import numpy as np
import pytest

from scripts.organ.exchange import exchanged, pair_places
from scripts.organ.side_names import other_side, paired_labels, side_in, without_side
from tests.helpers.pairs import ACROSS_MM, AXES, SPACINGS, ball, both_kidneys

PAIRS = {3: 2}  # left → right


@pytest.mark.parametrize(
    ("name", "side", "other"),
    [
        ("left_upper", "left", "right_upper"),
        ("Kidney Right", "right", "kidney left"),
        ("Left-Hippocampus", "left", "right-hippocampus"),
        ("bright_spot", "", ""),
        ("cleft", "", ""),
        ("left_of_right", "", ""),
        ("liver", "", ""),
    ],
)
def test_a_side_is_a_word_of_a_name(name, side, other):
    assert (side_in(name), other_side(name)) == (side, other)


def test_labels_are_pairs_where_their_names_differ_in_the_side_only():
    names = {1: "right_upper", 2: "right_middle", 3: "right_lower", 4: "left_upper", 5: "left_lower", 6: "heart"}
    assert paired_labels(names) == {4: 1, 5: 3}
    assert paired_labels({1: "kidney", 2: "tumour"}) == {}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axes", AXES)
def test_exchanged_labels_are_found_on_any_grid(axes, spacing):
    labels, affine, _ = both_kidneys(axes, spacing)
    (right,) = pair_places(labels, affine, PAIRS)
    (wrong,) = pair_places(exchanged(labels, PAIRS), affine, PAIRS)
    assert not right.exchanged and wrong.exchanged
    np.testing.assert_array_equal(exchanged(exchanged(labels, PAIRS), PAIRS), labels)


def test_large_label_maps_are_looked_at_in_steps(monkeypatch):
    monkeypatch.setattr("scripts.organ.exchange.LOOKED_AT", 5000)
    labels, affine, _ = both_kidneys("oblique", "fine")
    assert [place.exchanged for place in pair_places(labels, affine, PAIRS)] == [False]
    assert [place.exchanged for place in pair_places(exchanged(labels, PAIRS), affine, PAIRS)] == [True]


def test_nothing_is_known_of_one_alone_of_crumbs_and_of_what_does_not_lie_beside_each_other():
    labels, affine, points = both_kidneys("straight", "fine")
    assert pair_places(np.where(labels == 3, 3, 0), affine, PAIRS) == []
    crumb = ball(points, [ACROSS_MM, 0, 0], np.full(3, 4.0))
    assert pair_places(np.where(labels == 3, 3, np.where(crumb, 2, 0)), affine, PAIRS) == []
    turned = np.eye(4)[[1, 0, 2, 3]] @ affine  # the header takes front to back for left to right
    assert pair_places(labels, turned, PAIRS) == []


@pytest.mark.parametrize(
    ("name", "key"), [("kidney_left", "kidney"), ("Left-Hippocampus", "hippocampus"), ("right kidney", "kidney")]
)
def test_both_sides_share_a_key(name, key):
    assert without_side(name) == key
