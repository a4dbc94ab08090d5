"""A mask that cannot be its organ where its header puts it: its signs, weighed together, and what is left alone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from scripts.geometry.affine import box_affine
from scripts.geometry.boxed import BoxedMask
from scripts.organ.pack import OrganPack
from scripts.refine.draw_mesh import draw_mesh
from scripts.refine.likeness import cut_flat, doubts, hopeless
from scripts.refine.reconstruct import ReconstructShape
from scripts.refine.settings import RefineSettings
from tests.helpers.mean_shape import KINDS, chain, damaged, mean_shape, run

LOST = {"as if LPS": np.diag([-1.0, -1.0, 1.0, 1.0]), "axes exchanged": np.eye(4)[[1, 0, 2, 3]]}


def fitted(
    turn="",
    rotation_deg=5.0,
    converged=True,
    near=0.95,
    scale=1.0,
    away_mm=None,
    expected_mm=40.0,
    fit_mm=2.0,
    others=2,
    taken_in=None,
):
    """What the verdict reads of a fitted structure.

    Its surface lies `away_mm` from where the joint model expects it, what is expected `expected_mm` from a voxel of it,
    and `fit_mm` from the fit. The model was fitted to it and so many `others`. It was `taken_in`ward by so
    many mm, 0 where only the run asked for it.
    """
    context = (
        None
        if away_mm is None
        else SimpleNamespace(
            of=lambda name, points: np.full(len(points), away_mm),
            structures=("liver", *"abcd"[:others]),
            surface_points=lambda name: np.array([[expected_mm, 0.0, 0.0]] * 5),
        )
    )
    return SimpleNamespace(
        name="liver",
        whole=None if taken_in is None else SimpleNamespace(inward_mm=taken_in),
        transform=SimpleNamespace(turn=turn, rotation_deg=rotation_deg, converged=converged),
        fit=SimpleNamespace(
            figures={"share_within_2mm": near},
            similarity=SimpleNamespace(scale=scale / 50.0),
            radius_mm=25.0 / scale,
            sdf_mm=lambda points: np.full(len(points), fit_mm),
        ),
        prior=SimpleNamespace(scale_mm=50.0),
        samples=SimpleNamespace(points_world=np.zeros((9, 3))),
        affine=np.array([[2.0, 0.0, 0.0, -6.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]),
        mask=BoxedMask((9, 9, 9), (slice(3, 4), slice(0, 1), slice(0, 1)), np.ones((1, 1, 1), bool)),  # at 0 mm
        context=context,
    )


@pytest.mark.parametrize(
    ("signs", "dice"),
    [
        ({}, 0.97),
        ({"rotation_deg": 30.0}, 0.97),  # true kidneys stand so
        ({"rotation_deg": 30.0, "converged": False}, 0.97),
        ({"near": 0.4}, 0.4),  # a broken mask
        ({"away_mm": 9.0}, 0.97),  # the joint model alone may be wrong
        ({"away_mm": 12.0, "expected_mm": 7.0, "turn": "turned by 180°", "near": 0.2}, 0.6),  # a leak as large as it
        ({"away_mm": -2.0, "rotation_deg": 30.0, "converged": False, "near": 0.2, "turn": "mirrored"}, 0.3),
        ({"away_mm": 2.0, "expected_mm": 7.0, "taken_in": 1.5}, 0.97),
        ({"away_mm": 7.0, "fit_mm": 9.0, "others": 1, "taken_in": 1.5}, 0.97),  # expected by itself
        ({"away_mm": 7.0, "expected_mm": 9.0, "taken_in": 0.0}, 0.97),  # as the run asked for
    ],
)
def test_too_few_signs_raise_no_doubt(signs, dice):
    assert doubts(fitted(**signs), dice) == []


@pytest.mark.parametrize(
    ("signs", "dice", "count"),
    [
        ({"turn": "turned by 90°"}, 0.95, 1),
        ({"rotation_deg": 30.0, "converged": False}, 0.5, 3),
        ({"scale": 0.5, "near": 0.3}, 0.4, 3),
        ({"away_mm": 12.0, "rotation_deg": 30.0}, 0.97, 2),
        ({"away_mm": -12.0}, 0.1, 2),
        ({"away_mm": 26.0}, 0.97, 1),  # more than its radius
        ({"away_mm": 12.0, "expected_mm": 9.0, "rotation_deg": 30.0}, 0.97, 2),  # what is expected is not in it
        ({"away_mm": 12.0, "expected_mm": 7.0, "fit_mm": -6.0, "rotation_deg": 30.0}, 0.97, 2),  # or the fit missed it
        ({"away_mm": 12.0, "expected_mm": 7.0, "others": 1, "rotation_deg": 30.0}, 0.97, 2),  # expected by itself
        ({"away_mm": 7.0, "expected_mm": 7.0, "fit_mm": 6.0, "taken_in": 1.5}, 0.97, 1),  # a larger neighbour's
        ({"away_mm": 7.0, "expected_mm": 9.0, "taken_in": 1.5}, 0.97, 1),
    ],
)
def test_signs_together_do(signs, dice, count):
    found = doubts(fitted(**signs), dice)
    assert len(found) == count and all(len(words) > 10 for words in found)


def test_a_fit_unlike_its_mask_after_an_alignment_that_did_not_settle_cannot_be_right():
    assert "Dice with the mask is 0.04" in hopeless(fitted(converged=False), 0.04)
    assert hopeless(fitted(converged=False), 0.5) == hopeless(fitted(), 0.04) == ""


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_lost_its_orientation_is_left_alone_but_for_islands(kind, lost):
    truth, affine = mean_shape(kind)
    broken, wrong = damaged(truth, affine), LOST[lost] @ affine
    result = run(broken, wrong)
    refined, (case,) = result["pred"].numpy()[0], result["pred_shapes"]
    assert not ((refined > 0) & (broken == 0)).any() and (refined[truth > 0] == broken[truth > 0]).all()
    assert not refined[truth == 0].any()  # the island has gone
    said = case.failure or " ".join(case.quality["warnings"])
    assert "does not look like hippocampus where its header puts it" in said and "it would fit" in said
    assert "check the orientation" in said and "labels" in said
    assert case.quality.get("doubtful", "not refined" in said)


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_does_not_replace_a_mask_that_lost_its_orientation(kind, lost):
    truth, affine = mean_shape(kind)
    broken = damaged(truth, affine)
    result = run(broken, LOST[lost] @ affine, "paper")
    (case,) = result["pred_shapes"]
    np.testing.assert_array_equal(result["pred"].numpy()[0], broken)
    said = case.failure or " ".join(case.quality["warnings"])
    assert "does not look like hippocampus where its header puts it" in said and "it was left as it is" in said
    assert case.failure or (case.quality["doubtful"] and case.mesh.is_watertight)


@pytest.mark.parametrize("settings", [{"preset": "paper"}, {"gate": False}], ids=["paper", "no gate"])
def test_where_nothing_is_judged_region_by_region_a_doubted_mask_is_left_whole(settings):
    truth, affine = mean_shape("oblique")
    broken = damaged(truth, affine)
    pred = MetaTensor(torch.from_numpy(broken[None].copy()), affine=torch.as_tensor(affine))
    (case,) = Compose(chain("linear").transforms[:3])({"pred": pred})["pred_shapes"]
    reconstruct = ReconstructShape(RefineSettings.load(pack=OrganPack.load("hippocampus"), **settings))
    free = reconstruct(case)
    assert not free.doubtful and not free.warnings and ((free.signed_mm < 0) != (broken[free.box] > 0)).any()
    left = reconstruct(replace(case, transform=replace(case.transform, turn="turned by 90°")))
    np.testing.assert_array_equal(left.signed_mm < 0, broken[left.box] > 0)
    assert left.doubtful and not len(left.outside) and not left.regions
    assert "turned by 90° it would fit" in left.warnings[0] and "it was left as it is" in left.warnings[0]
    mesh, _ = draw_mesh(left.signed_mm, box_affine(affine, [side.start for side in left.box]))
    assert mesh.volume == pytest.approx((left.signed_mm < 0).sum() * abs(np.linalg.det(affine)), rel=0.02)


def test_a_fit_that_lies_elsewhere_does_not_replace_the_mask():
    truth, affine = mean_shape("plain")
    pred = MetaTensor(torch.from_numpy(truth[None].copy()), affine=torch.as_tensor(affine))
    (case,) = Compose(chain("linear").transforms[:3])({"pred": pred})["pred_shapes"]
    sdf, aside = case.fit.sdf_canonical, torch.tensor([0.6, 0.0, 0.0])
    fit = replace(case.fit, sdf_canonical=lambda points: sdf(points + aside))
    case = replace(case, fit=fit, transform=replace(case.transform, converged=False))
    left = ReconstructShape(RefineSettings.load("paper", OrganPack.load("hippocampus")))(case)
    np.testing.assert_array_equal(left.signed_mm < 0, truth[left.box] > 0)
    assert left.doubtful and "the mask was left as it is: the fit cannot be right" in left.warnings[0]


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_stands_right_has_no_warning(kind, preset):
    truth, affine = mean_shape(kind)
    (case,) = run(damaged(truth, affine), affine, preset)["pred_shapes"]
    assert case.quality["warnings"] == [] and case.transform.turn == "" and not case.quality["doubtful"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_was_cut_along_a_plane_of_its_grid_is_named(kind):
    label_map, affine = mean_shape(kind)
    label_map[:, int(np.median(np.nonzero(label_map)[1])) :] = 0
    (half,) = run(label_map, affine)["pred_shapes"]
    (warning,) = half.quality["warnings"]
    assert warning.startswith("the hippocampus ended in a plane, across ")


def test_what_experts_end_in_a_plane_is_not_named():
    structure = OrganPack.load("thorax").structure("trachea")
    assert not cut_flat(structure, 1.0)
    assert cut_flat(replace(structure, flat_ends=False), 1.0)
    assert not cut_flat(replace(structure, flat_ends=False), 0.6)
