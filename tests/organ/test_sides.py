"""Left and right told apart: two organs, one, horseshoes, islands, on all kinds of grids; packs with sides."""

import numpy as np
import pytest
import yaml

from scripts.organ.pack import OrganError, OrganPack
from scripts.organ.sides import split_pair, split_sides
from tests.helpers.pairs import ACROSS_MM as ACROSS
from tests.helpers.pairs import AXES, CENTRE, RADII, SPACINGS, ball, grid, kidneys, label_map, world, write_pack

CENTRE_X, RADII_SMALL = CENTRE[0], 0.6 * RADII


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axes", AXES)
def test_two_organs_are_told_apart_on_any_grid(axes, spacing):
    shape, affine = grid(axes, spacing)
    both = kidneys(world(shape, affine))
    for order in ("C", "F"):
        sides = split_sides(np.asarray(both["left"] | both["right"], order=order), affine)
        np.testing.assert_array_equal(sides.left, both["left"])
        np.testing.assert_array_equal(sides.right, both["right"])


def test_larger_x_is_right():
    """NIfTI's world: x to the patient's right, y to the front, z up."""
    mask = np.zeros((9, 3, 3), bool)
    mask[[1, 7]] = True
    assert split_sides(mask, np.eye(4)).right[7].all() and split_sides(mask, np.diag([-1, 1, 1, 1.0])).right[1].all()


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_single_organ_is_on_its_side(axes, side):
    shape, affine = grid(axes, "anisotropic")
    points = world(shape, affine)
    sign = 1.0 if side == "right" else -1.0
    mask = ball(points, [sign * 10.0, 0, 0])  # it reaches across the middle plane
    piece = ball(points, [sign * 45.0, 10.0, 20.0], np.full(3, 6.0))
    for found in (mask, mask | piece):
        sides = split_sides(found, affine)
        np.testing.assert_array_equal(sides.of(side), found)
        assert not (sides.left & sides.right).any() and sides.territory(side, affine).all()


@pytest.mark.parametrize("extra", [20, 45])
def test_two_organs_beside_the_middle_of_the_volume(extra):
    """A volume whose middle plane runs through one of them, or leaves both on one side of it."""
    shape, affine = grid("slices first", "anisotropic")
    both = kidneys(world(shape, affine))
    pad = [(0, 0), (0, 0), (0, extra)]
    sides = split_sides(np.pad(both["left"] | both["right"], pad), affine)
    np.testing.assert_array_equal(sides.right, np.pad(both["right"], pad))
    np.testing.assert_array_equal(sides.left, np.pad(both["left"], pad))


@pytest.mark.parametrize("axes", AXES)
def test_a_horseshoe_is_cut_at_its_waist(axes):
    shape, affine = grid(axes, "anisotropic")
    points = world(shape, affine)
    both = kidneys(points)
    bridge = (np.abs(points[..., 0]) < ACROSS) & (np.abs(points[..., 1]) < 6) & (np.abs(points[..., 2] + 10) < 6)
    sides = split_sides(both["left"] | both["right"] | bridge, affine)
    assert (sides.left[both["left"]]).all() and (sides.right[both["right"]]).all()
    assert points[..., 0][sides.left].max() == pytest.approx(sides.midline_mm - CENTRE_X, abs=3)
    assert abs(sides.midline_mm - CENTRE_X) < 6  # it is 0 but for the lean and the smoothing
    np.testing.assert_array_equal(sides.left ^ sides.right, both["left"] | both["right"] | bridge)


def test_islands_follow_the_nearer_organ():
    """Also one beyond the middle plane: the right organ lies beside it, the left one far away."""
    shape, affine = grid("oblique", "anisotropic")
    points = world(shape, affine)
    right, left = ball(points, [20, 0, 0]), ball(points, [-50, 0, 0], RADII_SMALL)
    island = ball(points, [-4, 0, 0], np.full(3, 3.5))
    assert island.any()
    sides = split_sides(right | left | island, affine)
    np.testing.assert_array_equal(sides.right, right | island)
    np.testing.assert_array_equal(sides.left, left)


def test_the_territories_of_the_sides_part_the_volume():
    shape, affine = grid("oblique", "thick slices")
    points = world(shape, affine)
    both = kidneys(points)
    sides = split_sides(both["left"] | both["right"], affine)
    left, right = sides.territory("left", affine), sides.territory("right", affine)
    np.testing.assert_array_equal(left, ~right)
    np.testing.assert_array_equal(right, points[..., 0] + CENTRE_X >= sides.midline_mm)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axes", AXES)
def test_a_pair_is_two_bodies_beside_each_other(axes, spacing):
    shape, affine = grid(axes, spacing)
    points = world(shape, affine)
    both = kidneys(points)
    for right in (both["right"], ball(points, (16, 0, 0))):  # also with a gap much narrower than the organs
        sides = split_pair(both["left"] | right, affine)
        np.testing.assert_array_equal(sides.left, both["left"])
        np.testing.assert_array_equal(sides.right, right)
    assert split_pair(both["left"], affine) is None
    island = ball(points, (ACROSS, 0, 0), 5.0)
    assert split_pair(both["left"] | island, affine) is None


@pytest.mark.parametrize("axes", AXES)
def test_the_pieces_of_one_organ_are_no_pair(axes):
    points = world(*(at := grid(axes)))
    pieces = ball(points, (-12, -30, 0), 9.0) | ball(points, (12, 30, 0), 9.0)  # apart in x, but more so in y
    assert split_pair(pieces, at[1]) is None


def test_nothing_is_no_pair():
    assert split_pair(np.zeros((5, 5, 5), bool), np.eye(4)) is None


def test_nothing_is_on_no_side():
    sides = split_sides(np.zeros((3, 4, 5), bool), np.eye(4))
    assert not sides.left.any() and not sides.right.any()


def test_a_pack_gives_each_side_its_voxels(tmp_path):
    pack = OrganPack.load(write_pack(tmp_path))
    shape, affine = grid("slices first", "anisotropic")
    points = world(shape, affine)
    labels, both = label_map(points), kidneys(points)
    masks = pack.masks(labels, affine)
    assert list(masks) == ["kidney_right", "kidney_left"]
    np.testing.assert_array_equal(masks["kidney_left"], both["left"])
    np.testing.assert_array_equal(pack.structure("kidney_right").mask(labels, affine), both["right"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": "up"}, "kidney_right: side must be one of left, right, not 'up'"),
        ({"side": "left"}, "share labels"),
        ({"side": None}, "share labels"),
        ({"labels": [1]}, "share labels"),
        ({"mirror": "never"}, "share a prior"),
        ({"name": "kidney_left"}, "same name"),
        ({"paired": True}, "paired needs mirror: auto"),
    ],
)
def test_packs_that_make_no_sense_are_refused(tmp_path, change, message):
    file = write_pack(tmp_path) / "organ.yaml"
    settings = yaml.safe_load(file.read_text())
    first = settings["structures"][0] | change
    settings["structures"][0] = {key: value for key, value in first.items() if value is not None}
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(OrganError, match=message):
        OrganPack.load(tmp_path)
