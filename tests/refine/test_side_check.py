"""Left and right exchanged in the lungs' lobes: their own priors' mean shapes, at their places, on a coarse grid."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cases.given import GivenLabels
from scripts.geometry.affine import Similarity
from scripts.geometry.resample import WorldGrid
from scripts.organ.exchange import exchanged
from scripts.refine.chain import Refiner
from scripts.refine.side_check import SidesFound
from scripts.refine.stages import Aligned
from scripts.refine.transforms import MendSidesd, RefineShape
from scripts.report.outcome import outcome_of

PAIRS = {4: 1, 5: 3}  # left → right
PLACES = {
    "left_upper": (-75, 10, 60),
    "left_lower": (-75, -10, -60),
    "right_upper": (75, 10, 75),
    "right_lower": (75, -10, -60),
}
MIRROR, TURN = np.diag([-1.0, 1.0, 1.0, 1.0]), np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return Refiner("lung_lobes", "linear", see=False)


@pytest.fixture(scope="module")
def lobes(refiner) -> tuple[np.ndarray, np.ndarray]:
    """Label map of four lobes, and its affine."""
    shape = (72, 56, 76)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -2.0 * (np.array(shape) - 1)
    points = WorldGrid(affine, shape).points_world()
    labels = np.zeros(shape, np.uint8)
    for name, place in PLACES.items():
        prior = refiner.priors[name]
        pose = Similarity(1 / prior.scale_mm, np.eye(3), -np.array(place) / prior.scale_mm)
        canonical = torch.as_tensor(pose.apply(points.reshape(-1, 3)), dtype=torch.float32)
        inside = (canonical.norm(dim=-1) < 1.0).numpy()
        mean = torch.zeros(prior.linear.n_modes)
        inside[inside] = prior.linear.evaluate(mean, canonical[inside]).numpy() < 0
        labels[inside.reshape(shape) & (labels == 0)] = refiner.pack.structure(name).labels[0]
    return labels, affine


def test_partners_have_a_prior_each(refiner):
    left_right = {"left_upper": "right_upper", "left_lower": "right_lower"}
    assert refiner.partners == left_right | {right: left for left, right in left_right.items()}
    assert Refiner("kidneys", "linear").partners == {}  # both sides are one label


def test_lobes_at_their_places_give_no_warning(refiner, lobes):
    assert refiner.mend_sides(*lobes, fix=True) == SidesFound()


def test_exchanged_lobes_are_named_and_exchanged_back_where_asked_to(refiner, lobes):
    labels, affine = lobes
    found = refiner.mend_sides(exchanged(labels, PAIRS), affine)
    (said,) = found.said
    assert not found.pairs and "left_upper lies to the right of right_upper" in said and "--fix_sides true" in said
    found = refiner.mend_sides(exchanged(labels, PAIRS), affine, fix=True)
    assert found.pairs == PAIRS and "were exchanged back" in found.said[0]


def test_one_exchanged_pair_of_two_is_named_and_left(refiner, lobes):
    labels, affine = lobes
    found = refiner.mend_sides(exchanged(labels, {4: 1}), affine, fix=True)
    assert not found.pairs and not found.strays
    assert "in a part of the labels: left_upper lies to the right of right_upper" in found.said[0]


def test_a_header_whose_axis_is_reversed_is_not_taken_for_exchanged_labels(refiner, lobes):
    labels, affine = lobes
    found = refiner.mend_sides(labels, MIRROR @ affine, fix=True)
    assert not found.pairs and "an axis of the header is reversed" in found.said[0]


def test_a_turned_header_is_not_taken_for_exchanged_labels(refiner, lobes):
    labels, affine = lobes
    found = refiner.mend_sides(labels, TURN @ affine, fix=True)
    assert not found.pairs and not found.strays and found.said


def test_a_part_on_the_wrong_side_becomes_its_partner_s_in_labels_and_probabilities(refiner, lobes):
    labels, affine = lobes
    wrong = np.where(labels == 1, 4, labels)
    pred = MetaTensor(torch.from_numpy(wrong[None].copy()), affine=torch.as_tensor(affine))
    prob = torch.from_numpy(np.stack([wrong == value for value in range(6)]).astype(np.float32))
    mended = MendSidesd("pred", refiner)({"pred": pred, "prob": prob})
    assert (mended["pred"].numpy()[0] == labels).all() and mended["pred"].dtype == pred.dtype
    assert (mended["prob"].argmax(0).numpy() == labels).all() and (prob.argmax(0).numpy() == wrong).all()
    (said,) = mended["pred_sides"]
    assert "of left_upper lay on the patient's right, and became right_upper" in said


@pytest.mark.parametrize("fix_sides", [True, False])
def test_the_whole_chain_looks_at_the_sides_and_exchanges_them_where_asked(lobes, caplog, fix_sides):
    labels, affine = lobes
    wrong = MetaTensor(torch.from_numpy(exchanged(labels, PAIRS)[None]), affine=torch.as_tensor(affine))
    refined, _ = RefineShape("lung_lobes", "linear", fix_sides=fix_sides)(wrong)
    assert "left_upper lies to the right of right_upper" in caplog.text
    assert ((refined.numpy()[0] == labels).mean() > 0.99) == fix_sides


def test_a_part_that_the_mask_has_no_label_for_is_removed(refiner, lobes):
    labels, affine = lobes
    wrong, right = np.where(labels == 1, 4, labels), np.where(labels == 1, 0, labels)
    pred = MetaTensor(torch.from_numpy(wrong[None].copy()), affine=torch.as_tensor(affine))
    prob = torch.from_numpy(np.stack([wrong == value for value in range(6)]).astype(np.float32))
    given = GivenLabels(wrong, affine, {14: 4, 15: 5, 13: 3, 200: 1})  # 200 may not fit the file's data type
    mended = MendSidesd("pred", refiner)({"pred": pred, "prob": prob, "pred_given": given})
    assert (mended["pred"].numpy()[0] == right).all() and (mended["prob"].argmax(0).numpy() == right).all()
    assert "and was removed, since the mask's labels have no right_upper" in mended["pred_sides"][0]


def test_of_drawn_slices_a_part_on_the_wrong_side_is_named_only(refiner, lobes):
    labels, affine = lobes
    wrong = np.where(labels == 1, 4, labels)
    pred = MetaTensor(torch.from_numpy(wrong[None].copy()), affine=torch.as_tensor(affine))
    left = MendSidesd("pred", refiner)({"pred": pred, "pred_drawn": "what was drawn"})
    assert (left["pred"].numpy()[0] == wrong).all() and "and was left there" in left["pred_sides"][0]


def test_beside_a_joint_model_only_a_label_that_is_missing_gets_a_part(refiner, lobes, monkeypatch):
    """The model expects each organ at its place, and tells better what a piece is."""
    labels, affine = lobes
    part = (labels == 3) & (np.arange(len(labels)) > 56)[:, None, None]
    some, all_of_it = np.where(part, 5, labels), np.where(labels == 3, 5, labels)
    assert refiner.mend_sides(some, affine).strays
    monkeypatch.setattr(refiner, "joint", "a model")
    found = refiner.mend_sides(some, affine)
    assert not found.strays and "of left_lower lay on the patient's right, and was left there" in found.said[0]
    assert (refiner.mend_sides(all_of_it, affine).mend(all_of_it) == labels).all()


def test_parts_are_looked_for_after_an_exchange(refiner, lobes):
    labels, affine = lobes
    part = (labels == 3) & (np.arange(len(labels)) > 56)[:, None, None]  # the outermost
    wrong = exchanged(np.where(part, 5, labels), PAIRS)
    found = refiner.mend_sides(wrong, affine, fix=True)
    assert (found.mend(wrong) == labels).all() and len(found.said) == 2


def test_a_lobe_that_is_the_other_side_s_is_told_by_its_shape(refiner, lobes):
    labels, affine = lobes
    (found,) = [one for one in refiner.align(np.where(labels == 3, 5, 0), affine) if isinstance(one, Aligned)]
    assert found.name == "left_lower" and found.transform.turn == "as right_lower"


def test_the_transform_exchanges_labels_and_probabilities_and_the_report_says_so(refiner, lobes):
    labels, affine = lobes
    wrong = exchanged(labels, PAIRS)
    pred = MetaTensor(torch.from_numpy(wrong[None].copy()), affine=torch.as_tensor(affine))
    prob = torch.from_numpy(np.stack([wrong == value for value in range(6)]).astype(np.float32))
    data: dict[Any, Any] = {"pred": pred, "prob": prob}
    left = MendSidesd("pred", refiner)(data)
    assert (left["pred"].numpy() == wrong).all() and left["prob"] is prob and len(left["pred_sides"]) == 1
    mended = MendSidesd("pred", refiner, fix_sides=True)(data)
    assert (mended["pred"].numpy()[0] == labels).all() and mended["pred"].dtype == pred.dtype
    assert (mended["prob"].argmax(0).numpy() == labels).all()
    outcome = outcome_of({**mended, "initial": pred, "pred_shapes": []})
    assert outcome.warnings == mended["pred_sides"] and outcome.changed_voxels == (wrong != labels).sum()
