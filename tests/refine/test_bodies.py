"""What is comparable to the organ is no island: two organs in one mask are left, and named."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.cases.read import read_labels
from scripts.geometry.affine import apply_affine
from scripts.geometry.boxed import BoxedMask
from scripts.organ.pack import OrganPack
from scripts.refine.bodies import crumbs, far_islands, largest_body, other_bodies, two_organs
from scripts.refine.chain import Refiner
from tests.helpers.mean_shape import KINDS, damaged, dice, mean_shape, run, whole_head
from tests.helpers.volumes import OBLIQUE

PACK = OrganPack.load("hippocampus")
ALONE = replace(PACK, structures=(replace(PACK.structures[0], paired=False),))  # knows of no other side


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", [False, True])
def test_a_second_organ_is_left_and_named(kind, split):
    label_map, first, affine = whole_head(kind, split=split)
    result = run(label_map, affine, organ=ALONE)
    refined, (case,) = result["pred"].numpy()[0], result["pred_shapes"]
    second = (label_map > 0) & ~first
    np.testing.assert_array_equal(refined[second], label_map[second])
    said = case.failure or " ".join(case.quality["warnings"])
    assert "two organs in one mask?" in said and "mask of its own" in said
    if not case.failure:
        assert dice((refined > 0) & ~second, first) > 0.95
        left = [r for r in case.quality["regions"] if "another body" in r["reason"]]
        assert left and not any(r["accepted"] for r in left)


@pytest.mark.parametrize("kind", KINDS)
def test_two_whole_organs_are_named_as_such(kind):
    label_map, _, affine = whole_head(kind, cut=False)
    result = run(label_map, affine, organ=ALONE)
    (case,) = result["pred_shapes"]
    assert (result["pred"].numpy()[0] == label_map).all()
    said = case.failure or " ".join(case.quality["warnings"])
    assert "ml" in said and "mm a" in said and "two organs in one mask?" in said and "anchor" not in said


def test_islands_still_go_without_a_warning():
    truth, affine = mean_shape("plain")
    broken = damaged(truth, affine)
    result = run(broken, affine, organ=ALONE)
    assert not (result["pred"].numpy()[0] > 0)[(broken > 0) & (truth == 0)].any()
    assert result["pred_shapes"][0].quality["warnings"] == []


def blocks(*spans: tuple[int, int]) -> np.ndarray:
    """Blocks of 4 x 4 voxels' cross section between planes of the first axis."""
    mask = np.zeros((60, 8, 8), bool)
    for start, stop in spans:
        mask[start:stop, 2:6, 2:6] = True
    return mask


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]), OBLIQUE])
def test_pieces_that_lie_together_count_together(affine):
    kept = blocks((0, 20))
    apart, together = blocks((0, 20), (35, 38), (55, 58)), blocks((0, 20), (35, 38), (40, 43))
    step_mm = float(np.linalg.norm(affine[:3, 0]))
    assert other_bodies(apart, kept, affine, 6.0 * step_mm) == []
    (body,) = other_bodies(together, kept, affine, 6.0 * step_mm)
    assert len(body.voxels) == 96 and body.volume_mm3 == pytest.approx(96 * abs(np.linalg.det(affine[:3, :3])))
    assert body.gap_mm == pytest.approx(16 * step_mm, rel=0.02)
    np.testing.assert_array_equal(np.unique(body.voxels[:, 0]), [35, 36, 37, 40, 41, 42])


def test_what_touches_the_organ_is_no_body():
    assert other_bodies(blocks((0, 40)), blocks((0, 20)), np.eye(4), 10.0) == []


def test_all_that_would_go_is_a_body_where_nothing_is_kept():
    (body,) = other_bodies(blocks((0, 20)), blocks(), np.eye(4), 10.0)
    assert body.gap_mm is None and "away" not in body.beside("liver")


def test_one_body_and_an_island_are_no_two_organs():
    assert two_organs(blocks((0, 40), (50, 53)), np.eye(4)) == ""
    assert two_organs(blocks((0, 20), (30, 44)), np.eye(4)).startswith("the mask holds two bodies, of 0.32 ml and 0.22")


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]), OBLIQUE])
def test_small_pieces_far_from_the_largest_are_islands(affine):
    mask = blocks((2, 42), (43, 44), (52, 53), (57, 58))  # the first of the three may have been cut off by a thin gap
    found = far_islands(BoxedMask.of(mask), affine, 40.0)
    np.testing.assert_array_equal(np.unique(found.voxels[:, 0]), [52, 57])
    assert found.count == 2 and len(found.voxels) == 32 and mask[tuple(found.voxels.T)].all()
    assert found.volume_mm3 == pytest.approx(32 * abs(np.linalg.det(affine[:3, :3])))
    np.testing.assert_allclose(found.centre_world, apply_affine(affine, np.array([[54.5, 3.5, 3.5]]))[0], atol=0.06)
    assert str(found).startswith("2 islands of together 0.0")


@pytest.mark.parametrize(
    "spans",
    [
        ((0, 40),),
        ((0, 40), (50, 53)),  # of 7 % of the largest: it may have been broken off
        ((0, 12), (18, 30), (36, 47)),  # a tube in pieces
        ((0, 30), (40, 47), (56, 57)),  # the second is comparable: then nothing is known of the third
    ],
)
def test_pieces_that_may_be_the_organ_are_no_islands(spans):
    assert far_islands(BoxedMask.of(blocks(*spans)), np.eye(4), 45.0) is None


def test_many_small_far_pieces_are_islands_though_together_they_are_large():
    spans = [(at, at + 1) for at in range(40, 52, 2)]
    found = far_islands(BoxedMask.of(blocks((0, 30), *spans)), np.eye(4), 40.0)
    assert found.count == 6 and len(found.voxels) == 6 * 16


@pytest.mark.parametrize(
    ("second", "length_mm", "side", "goes"),
    [
        ((38, 40), 20.0, "", True),  # a tenth of the largest, 18 mm away: the ball's radius is 4.2 mm
        ((38, 40), 80.0, "", False),  # of a long organ it may be the other end
        ((24, 26), 12.0, "", False),  # too near
        (
            (38, 46),
            20.0,
            "left",
            True,
        ),  # larger than that, but the other side, on which it lies, has a label of its own
        ((38, 46), 20.0, "right", False),  # it lies where the organ should, and the larger one does not
        ((38, 46), 20.0, "", False),  # a second organ in the same mask
        ((38, 50), 20.0, "left", False),  # large enough to be the other side's organ, whole
    ],
)
@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_the_larger_a_piece_the_farther_an_island_lies(second, length_mm, side, goes, flip):
    """World x rises to the right; a flipped array's first axis runs to the left."""
    mask = blocks((0, 20), second)
    affine = np.diag([flip, 1.0, 1.0, 1.0])
    if flip < 0:
        side = {"left": "right", "right": "left", "": ""}[side]
    found = far_islands(BoxedMask.of(mask), affine, length_mm, side)
    larger = second[1] - second[0] >= 4
    assert (two_organs(mask, affine, side) == "") == (goes or not larger)
    assert (found is not None) == goes
    if found is not None:
        np.testing.assert_array_equal(np.unique(found.voxels[:, 0]), np.arange(*second))


def test_a_body_on_the_wrong_side_is_another_organ_only_where_it_is_large():
    mask, kept = blocks((0, 20), (38, 46)), blocks((0, 20))
    assert (
        len(other_bodies(mask, kept, np.eye(4), 10.0)) == len(other_bodies(mask, kept, np.eye(4), 10.0, "right")) == 1
    )
    assert other_bodies(mask, kept, np.eye(4), 10.0, "left") == []


def test_crumbs_are_small_pieces_that_nothing_expects():
    mask = np.zeros((40, 30, 30), bool)
    mask[5:25, 5:25, 5:25] = True
    mask[30:32, 10:12, 10:12] = True  # expected there: a part that is torn off
    mask[35:37, 10:12, 10:12] = True
    mask[27:39, 14:25, 14:25] = True  # too large
    expected_mm = np.full(mask.shape, 3.0)
    expected_mm[:33] = -1.0
    gone = crumbs(mask, expected_mm)
    assert gone.sum() == 8 and gone[35:37, 10:12, 10:12].all()
    probability = np.where(mask, 0.7, np.nan)
    np.testing.assert_array_equal(crumbs(mask, expected_mm, probability), gone)
    assert not crumbs(mask, expected_mm, np.where(mask, 0.9, np.nan)).any()  # an image is sure of it
    assert not crumbs(mask & (expected_mm < 0), expected_mm).any()
    assert not crumbs(np.zeros_like(mask), expected_mm).any()


def test_the_largest_body_is_at_least_half_of_the_mask_and_nearly_all_of_a_tubes():
    body = largest_body(BoxedMask.of(blocks((0, 20), (30, 45))), np.eye(4), 16.0)
    np.testing.assert_array_equal(body, blocks((0, 20)))
    assert largest_body(BoxedMask.of(blocks((0, 20))), np.eye(4), 16.0) is None  # there is no other
    assert largest_body(BoxedMask.of(blocks((0, 12), (18, 28), (36, 46))), np.eye(4), 12.0) is None
    assert largest_body(BoxedMask.of(blocks((0, 20), (30, 45))), np.eye(4), 80.0) is None  # may be parts of a tube
    body = largest_body(BoxedMask.of(blocks((0, 20), (30, 34))), np.eye(4), 80.0)
    np.testing.assert_array_equal(body, blocks((0, 20)))


@pytest.mark.slow
def test_where_the_other_structures_place_one_body_the_other_goes(shared_data, monkeypatch):
    file = shared_data / "thorax" / "labels" / "thorax_34.nii.gz"
    if not file.is_file():
        pytest.skip(f"no label map at {file}")
    labels, affine = read_labels(file)
    truth, affine = labels[::4, ::4].astype(np.uint8), affine @ np.diag([4.0, 4.0, 1.0, 1.0])
    heart = truth == 2
    index = np.stack(np.meshgrid(*map(np.arange, truth.shape), indexing="ij"), -1)
    world = apply_affine(affine, index.reshape(-1, 3)).reshape(index.shape)
    far = np.linalg.norm(world - (world[heart].mean(0) + [0.0, 0.0, -150.0]), axis=-1)
    mask, larger = (np.where((truth == 0) & (far < radius), 2, truth).astype(np.uint8) for radius in (45.0, 70.0))
    refiner = Refiner("thorax", see=False)
    refined, _ = refiner.refine(mask, affine)
    assert dice(refined == 2, heart) > 0.97 > dice(mask == 2, heart) + 0.1
    assert not refiner.align(mask, affine)[1].failure
    assert np.count_nonzero(larger == 2) > 2 * np.count_nonzero(heart)
    refined, _ = refiner.refine(larger, affine)  # the heart is the smaller body, which must not go
    assert np.count_nonzero((refined == 2) & heart) > 0.97 * np.count_nonzero(heart)
    monkeypatch.setattr("scripts.refine.placing.largest_body", lambda *_: None)
    assert "two bodies" in refiner.align(mask, affine)[1].failure
