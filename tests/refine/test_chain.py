"""The whole chain on the packaged hippocampus prior's own mean shape, drawn on grids of several kinds and damaged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from scripts.organ.pack import OrganPack
from scripts.refine import gate
from scripts.refine.chain import Refiner
from scripts.refine.merge import merge
from scripts.refine.placing import Placing
from scripts.refine.reconstruct import ReconstructShape
from scripts.refine.settings import RefineSettings
from scripts.refine.transforms import (
    RefineShape,
    RefineShapeD,
    RefineShaped,
)
from scripts.report.outcome import status_of
from tests.helpers.mean_shape import CENTRE, KINDS, chain, damaged, dice, grid_of, mean_shape, run


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_repaired_on_any_grid(kind):
    truth, affine = mean_shape(kind)
    broken = damaged(truth, affine)
    result = run(broken, affine)
    refined = result["pred"].numpy()[0]
    case = result["pred_shapes"][0]
    assert not case.failure
    assert refined.shape == truth.shape and refined.dtype == truth.dtype
    assert set(np.unique(refined)) <= {0, 1, 2}
    assert np.allclose(result["pred"].affine, affine)
    before, after = dice(broken > 0, truth > 0), dice(refined > 0, truth > 0)
    assert after > before + 0.35 * (1 - before)
    kept = (broken > 0) & (refined > 0)
    assert (refined[kept] == broken[kept]).all()  # parts stay where they were
    kinds = {(r["kind"], r["accepted"]) for r in case.quality["regions"]}
    assert ("remove", True) in kinds and ("add", True) in kinds
    assert case.mesh.is_watertight
    assert case.mesh.volume == pytest.approx((truth > 0).sum() * abs(np.linalg.det(affine[:3, :3])), rel=0.1)


@pytest.fixture(scope="module")
def refine_alone():
    return RefineShape("hippocampus", "linear")


def test_volumes_are_taken_with_and_without_a_channel_as_tensors_and_arrays(refine_alone):
    truth, _ = mean_shape("plain")
    broken = damaged(truth, np.eye(4))
    expected = refine_alone(torch.from_numpy(broken[None]))[0]
    assert (expected.numpy()[0] != broken).any()
    kinds = {
        "array": broken,
        "big-endian": broken.astype(">i2"),
        "turned": np.ascontiguousarray(broken[::-1])[::-1],
        "float": broken.astype(np.float32)[None],
        "tensor": torch.from_numpy(broken),
        "MetaTensor": MetaTensor(torch.from_numpy(broken), affine=torch.eye(4)),
    }
    for kind, given in kinds.items():
        refined, shapes = refine_alone(given)
        assert refined.shape == given.shape and not shapes[0].failure, kind
        assert refined.numpy().dtype == np.dtype(str(given.dtype).removeprefix("torch.")).newbyteorder("="), kind
        np.testing.assert_array_equal(refined.numpy().reshape(broken.shape), expected.numpy()[0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((40, 40), r"must be \(C, X, Y, Z\) or \(X, Y, Z\), not \(40, 40\)"),
        ((1, 1, 9, 9, 9), "one volume, without a batch"),
        ((3, 9, 9, 9), "one channel, this has 3: .*argmax"),
    ],
)
def test_what_is_no_volume_is_refused(refine_alone, shape, message):
    for given in (np.zeros(shape), torch.zeros(shape)):
        with pytest.raises(ValueError, match=message):
            refine_alone(given)
    with pytest.raises(ValueError, match="an image must be"):
        refine_alone(np.zeros((9, 9, 9)), image=np.zeros((9, 9)))


def test_the_log_says_where_nothing_was_refined(caplog):
    refine = RefineShaped("pred", "thorax", "linear")
    empty = MetaTensor(torch.zeros(1, 9, 9, 9, dtype=torch.int), meta={"filename_or_obj": "case.nii.gz"})
    refine({"pred": empty})
    assert "case.nii.gz: nothing was refined: oesophagus: the mask has no oesophagus; heart: " in caplog.text
    assert [record.levelname for record in caplog.records if record.name.startswith("scripts")] == ["WARNING"]


def test_a_clean_mask_is_left_alone():
    truth, affine = mean_shape("plain")
    assert dice(run(truth, affine)["pred"].numpy()[0] > 0, truth > 0) > 0.99


def test_the_other_side_is_refined_by_the_mirrored_prior():
    truth, affine = mean_shape("plain", mirrored=True)
    broken = damaged(truth, affine)
    result = run(broken, affine)
    assert dice(result["pred"].numpy()[0] > 0, truth > 0) > dice(broken > 0, truth > 0)


def test_the_same_seed_gives_the_same_bytes_also_without_gradients():
    truth, affine = mean_shape("plain")
    broken = damaged(truth, affine)
    one = run(broken, affine)
    with torch.no_grad():
        two = run(broken, affine)
    with torch.inference_mode():
        three = run(broken, affine)
    for other in (two, three):
        assert (one["pred"].numpy() == other["pred"].numpy()).all()
        assert (one["pred_shapes"][0].mesh.vertices == other["pred_shapes"][0].mesh.vertices).all()


def test_the_network_s_own_certainty_protects_a_region():
    truth, affine = mean_shape("plain")
    broken = damaged(truth, affine)
    prob = np.stack([broken == value for value in (0, 1, 2)]).astype(np.float32)
    pred = MetaTensor(torch.from_numpy(broken[None].copy()), affine=torch.as_tensor(affine))
    result = chain()({"pred": pred, "prob": torch.from_numpy(prob)})
    removals = [r for r in result["pred_shapes"][0].quality["regions"] if r["kind"] == "remove"]
    assert removals and not any(r["accepted"] for r in removals)
    assert all("sure" in r["reason"] for r in removals)


@pytest.mark.parametrize("preset", ["paper", "linear"])
def test_other_presets_return_a_shape(preset):
    truth, affine = mean_shape("plain")
    result = run(damaged(truth, affine), affine, preset)
    assert not result["pred_shapes"][0].failure
    assert dice(result["pred"].numpy()[0] > 0, truth > 0) > 0.7


def test_what_cannot_be_refined_keeps_its_voxels():
    label_map = np.zeros((30, 30, 30), np.uint8)
    label_map[10:12, 10:12, 10] = 2
    result = run(label_map, np.eye(4))
    assert "only 4 voxels" in result["pred_shapes"][0].failure
    assert (result["pred"].numpy()[0] == label_map).all()


def too_small(kind: str, second_mm: float = 1.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball too small for a hippocampus and another far from it, of that radius; the first alone; and affine."""
    grid = grid_of(kind)
    away = grid.points_world() - CENTRE
    first = np.linalg.norm(away, axis=-1) < 4.5
    second = np.linalg.norm(away - [11.0, 8.0, 12.0], axis=-1) < second_mm
    return np.where(first | second, 2, 0).astype(np.uint8), first, grid.affine


@pytest.mark.parametrize("kind", KINDS)
def test_of_what_cannot_be_aligned_small_islands_go(kind):
    label_map, first, affine = too_small(kind)
    result = run(label_map, affine)
    (case,) = result["pred_shapes"]
    np.testing.assert_array_equal(result["pred"].numpy()[0], np.where(first, 2, 0))
    gone = int((label_map > 0).sum() - first.sum())
    assert gone > 0 and case.failure == "" and case.quality["changed_voxels"] == gone
    (said,) = case.quality["warnings"]
    assert "alignment failed" in said and "not refined" in said and said.endswith("ml, far from the rest, removed")
    assert status_of(case) == "refined"
    volumes = case.quality["volume_ml"]
    assert volumes["initial"] - volumes["refined"] == pytest.approx(case.quality["removed_ml"], abs=2e-4)
    assert (run(label_map, affine, "paper")["pred"].numpy()[0] == label_map).all()  # as published


def spoil_alignment(monkeypatch, by: np.ndarray) -> None:
    """Let the alignment fail of a mask that holds some of these voxels, as where there is much beside an organ."""
    place = Placing._place

    def spoilt(self, name, points, mask, *others):
        found = place(self, name, points, mask, *others)
        return replace(found, failure="alignment failed") if (mask & by).any() else found

    monkeypatch.setattr(Placing, "_place", spoilt)


def test_islands_that_spoil_the_alignment_are_left_out_of_it(monkeypatch):
    truth, affine = mean_shape("plain")
    broken = damaged(truth, affine)
    island = (broken > 0) & (truth == 0)
    spoil_alignment(monkeypatch, island)
    result = run(broken, affine)
    (case,) = result["pred_shapes"]
    refined = result["pred"].numpy()[0]
    assert case.failure == "" and "fit" in case.quality and not refined[island].any()
    assert dice(refined > 0, truth > 0) > dice(broken > 0, truth > 0)
    (left,) = run(broken, affine, "paper")["pred_shapes"]  # as published
    assert left.failure == "alignment failed"


def test_a_large_body_that_spoils_the_alignment_is_left_out_of_it(monkeypatch):
    truth, affine = mean_shape("plain")
    body = np.zeros(truth.shape, bool)
    corner = np.argwhere(
        (truth == 0) & (np.indices(truth.shape) >= np.array(truth.shape).reshape(3, 1, 1, 1) - 14).all(0)
    )
    body[tuple(corner[-int(0.22 * (truth > 0).sum()) :].T)] = True  # too large for an island
    both = np.where(body, 2, truth).astype(truth.dtype)
    spoil_alignment(monkeypatch, body)
    result = run(both, affine)
    (case,) = result["pred_shapes"]
    refined = result["pred"].numpy()[0] > 0
    assert case.failure == "" and case.quality["fit"]["dice_with_fit"] > 0.8
    assert refined[body].all() and any("another body" in said for said in case.quality["warnings"])  # two organs?
    assert dice(refined & ~body, truth > 0) > 0.97
    (left,) = run(both, affine, "paper")["pred_shapes"]  # as published
    assert left.failure == "alignment failed"


def test_of_what_cannot_be_aligned_large_pieces_stay():
    label_map, _, affine = too_small("plain", second_mm=2.4)
    result = run(label_map, affine)
    assert (result["pred"].numpy()[0] == label_map).all() and result["pred_shapes"][0].failure


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("sound_dice", "goes"), [(0.0, False), (1.0, True)])
def test_where_the_fit_cannot_tell_small_far_islands_go(kind, sound_dice, goes, monkeypatch):
    """The fit itself would remove nothing here."""
    truth, affine = mean_shape(kind)
    broken = damaged(truth, affine)
    pred = MetaTensor(torch.from_numpy(broken[None].copy()), affine=torch.as_tensor(affine))
    (case,) = Compose(chain().transforms[:3])({"pred": pred})["pred_shapes"]
    monkeypatch.setattr(gate, "SOUND_DICE", sound_dice)
    wary = {"island_radii": 99.0, "excess_radii": 99.0, "missing_radii": 99.0}
    part = ReconstructShape(RefineSettings.load("default", OrganPack.load("hippocampus"), **wary))(case)
    after, _ = merge(broken, affine, [(case, part)])
    island = (broken > 0) & (truth == 0)
    assert (after[~island] == broken[~island]).all() and (after[island] == 0).all() == goes
    found = [r for r in part.regions if r.accepted]
    assert [r.reason.startswith("1 island of ") for r in found] == [True] * goes


def test_specks_that_have_no_surface_are_a_failure_of_their_structure():
    """Single voxels spread so thinly that a meshing grid of bounded size does not see them."""
    labels = np.zeros((260, 260, 260), np.uint8)
    labels[::64, ::64, ::64] = 1
    result = run(labels, np.eye(4))
    assert "no usable surface" in result["pred_shapes"][0].failure
    assert np.array_equal(result["pred"].numpy()[0], labels)


@pytest.mark.parametrize("kind, preset, evidence", [("plain", "linear", False), ("oblique", "default", True)])
def test_the_four_in_one_give_the_same(kind, preset, evidence):
    truth, affine = mean_shape(kind)
    broken = damaged(truth, affine)
    pred = MetaTensor(torch.from_numpy(broken[None].copy()), affine=torch.as_tensor(affine))
    prob = torch.from_numpy(np.stack([broken == value for value in (0, 1, 2)]).astype(np.float32))
    four = chain(preset)({"pred": pred, "prob": prob} if evidence else {"pred": pred})
    one = RefineShaped("pred", "hippocampus", preset, prob_key="prob" if evidence else None)
    done = one({"pred": pred, "prob": prob, "case": "a"})
    assert set(done) == {"pred", "prob", "case", "pred_shapes"} and done["case"] == "a"
    refined, shapes = RefineShape("hippocampus", preset)(pred, prob=prob if evidence else None)
    for result, found in ((done["pred"], done["pred_shapes"]), (refined, shapes)):
        np.testing.assert_array_equal(result.numpy(), four["pred"].numpy())
        np.testing.assert_allclose(result.affine, affine)
        assert [shape.quality for shape in found] == [shape.quality for shape in four["pred_shapes"]]
        np.testing.assert_array_equal(found[0].mesh.vertices, four["pred_shapes"][0].mesh.vertices)
    assert (pred.numpy()[0] == broken).all() and RefineShapeD is RefineShaped


def test_several_keys_are_refined_each_for_itself():
    truth, affine = mean_shape("plain")
    masks = {"one": truth, "two": damaged(truth, affine)}
    data = {k: MetaTensor(torch.from_numpy(v[None].copy()), affine=torch.as_tensor(affine)) for k, v in masks.items()}
    result = RefineShaped(["one", "two", "three"], "hippocampus", "linear", allow_missing_keys=True)(data)
    for key, mask in masks.items():
        np.testing.assert_array_equal(result[key].numpy(), run(mask, affine, "linear")["pred"].numpy())
        assert result[f"{key}_shapes"][0].name == "hippocampus"
    assert (result["two"].numpy() != masks["two"][None]).any()


def test_the_four_in_one_take_masks_inward_as_asked_for():
    truth, affine = mean_shape("plain")
    pred = MetaTensor(torch.from_numpy(truth[None].copy()), affine=torch.as_tensor(affine))
    refined, (case,) = RefineShape("hippocampus", "linear", enlarged=True, inward_mm="hippocampus=0.5")(pred)
    expected, _ = Refiner("hippocampus", "linear", inward_mm=0.5).refine(truth, affine, enlarged=True)
    np.testing.assert_array_equal(refined.numpy()[0], expected)
    assert case.quality["inward_mm"] == 0.5
    with pytest.raises(ValueError, match="there is no structure 'liver'"):
        RefineShape("hippocampus", "linear", inward_mm="liver=2")


def test_a_u_net_that_made_the_mask_does_not_read_the_image_again():
    assert RefineShape("left_atrium").refiner.segmenter is not None
    assert RefineShaped(organ="left_atrium", second_reader=False).refine.refiner.segmenter is None
