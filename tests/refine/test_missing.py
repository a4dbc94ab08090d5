"""Structures that a mask lacks: drawn where the U-Net sees them, and never in place of what is there."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cases.given import OTHER
from scripts.cases.sources import LabelSource, ReadMaskd
from scripts.organ.pack import OrganPack
from scripts.organ.several import load_packs
from scripts.refine.chain import Refiner
from scripts.refine.missing import ADDED, ADDED_SAID, AddMissing, AddMissingd
from scripts.refine.several import JoinedRefiner
from scripts.refine.stages import Image
from scripts.refine.transforms import RefineShape, RefineShaped
from scripts.run.mask_request import MaskRequest
from scripts.unet.segmenter import Segmenter
from tests.helpers.two_packs import BEAN, PEA, garden, write_pack
from tests.helpers.volumes import save

NAMES = {1: "bean", 2: "pea"}


class FakeSegmenter(Segmenter):
    """Finds a label map (X, Y, Z) on the image's grid; counts how often it is asked."""

    def __init__(self, pack, label_map):
        super().__init__(pack)
        self.label_map, self.asked = label_map, 0

    def __call__(self, image):
        self.asked += 1
        one_hot = np.stack([self.label_map == value for value in range(len(self.pack.labels) + 1)])
        return MetaTensor(torch.from_numpy(one_hot.astype(np.float32)), affine=image.affine)


@pytest.fixture(scope="module")
def refiner(tmp_path_factory):
    return Refiner(OrganPack.load(write_pack(tmp_path_factory.mktemp("packs") / "both", NAMES)))


@pytest.fixture(scope="module")
def case():
    values, affine = garden()
    truth = np.select([values == BEAN, values == PEA], [1, 2], 0).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0.0, 3.0, truth.shape)
    return truth, affine, Image((100.0 * (truth > 0) + noise).astype(np.float32), affine)


def added(refiner, label_map, case, sees=None, writable=(1, 2)):
    truth, affine, image = case
    segmenter = FakeSegmenter(refiner.pack, truth if sees is None else sees)
    return AddMissing(refiner, segmenter)(label_map, affine, image, writable), segmenter


def test_what_is_missing_is_drawn_and_the_rest_stays(refiner, case):
    truth, _, _ = case
    found, _ = added(refiner, np.where(truth == 1, truth, 0), case)
    np.testing.assert_array_equal(found.label_map, truth)
    assert len(found.said) == 1 and found.said[0].startswith("pea: missing from the mask; drawn from the image (")


def test_the_network_is_not_asked_where_nothing_is_missing(refiner, case):
    truth, _, _ = case
    found, segmenter = added(refiner, truth, case)
    assert segmenter.asked == 0 and found.said == [] and found.label_map is truth


def test_what_the_image_does_not_show_is_not_invented(refiner, case):
    truth, _, _ = case
    alone = np.where(truth == 1, truth, 0)
    found, segmenter = added(refiner, alone, case, sees=alone)
    assert segmenter.asked == 1
    assert found.said == ["pea: missing from the mask, and not added: the U-Net does not see it in the image"]
    np.testing.assert_array_equal(found.label_map, alone)


def test_voxels_of_others_stay_theirs(refiner, case):
    truth, _, _ = case
    third = np.argwhere(truth == 2)
    third = third[: len(third) // 3]
    wide, other = np.where(truth == 1, 1, 0).astype(np.int8), np.where(truth == 1, 1, 0).astype(np.int8)
    wide[tuple(third.T)] = 1
    other[truth == 2] = OTHER
    found, _ = added(refiner, wide, case)
    np.testing.assert_array_equal(found.label_map, np.where(wide == 0, truth, wide))
    found, _ = added(refiner, other, case)
    np.testing.assert_array_equal(found.label_map, other)
    why = "where the image shows it, the mask has labels that are left alone"
    assert found.said == [f"pea: missing from the mask, and not added: {why}"]


def test_where_most_of_it_has_the_label_of_another_the_mask_is_wrong(refiner, case):
    truth, _, _ = case
    most = np.argwhere(truth == 2)
    most = most[: 2 * len(most) // 3]
    wide = np.where(truth == 1, 1, 0).astype(np.uint8)
    wide[tuple(most.T)] = 1
    found, _ = added(refiner, wide, case)
    np.testing.assert_array_equal(found.label_map, truth)
    assert found.names == ["pea"] and found.said[0].endswith("ml), mostly where the mask had other structures")


@pytest.mark.parametrize(("voxels", "is_scrap"), [(3, True), (250, True), (400, False)])
def test_less_than_a_tenth_is_as_good_as_nothing(refiner, case, voxels, is_scrap):
    """Of the usual 3.2 ml."""
    truth, _, _ = case
    few = np.where(truth == 1, truth, 0)
    few[tuple(np.argwhere(truth == 2)[:voxels].T)] = 2
    found, segmenter = added(refiner, few, case)
    np.testing.assert_array_equal(found.label_map, truth if is_scrap else few)
    assert (segmenter.asked, found.names) == ((1, ["pea"]) if is_scrap else (0, []))


def test_a_scrap_and_another_shape_are_named_and_not_drawn(refiner, case):
    truth, _, _ = case
    alone, first = np.where(truth == 1, truth, 0), np.argwhere(truth == 2).min(0)
    scrap, block = alone.copy(), alone.copy()
    scrap[first[0], :, first[2]] = 2
    block[first[0] :] = 2
    why = "pea: missing from the mask, and not added: "
    for sees, said in ((scrap, "the U-Net sees 0.06 ml of it, usual are "), (block, "what the U-Net")):
        found, _ = added(refiner, alone, case, sees=sees)
        np.testing.assert_array_equal(found.label_map, alone)
        assert len(found.said) == 1 and found.said[0].startswith(why + said)


def test_the_image_is_cut_around_the_pack_s_own_structures(refiner, case, monkeypatch):
    truth, affine, image = case
    label_map = np.where(truth == 1, truth, 0).astype(np.int8)
    label_map[-2:] = OTHER
    seen = []
    monkeypatch.setattr(FakeSegmenter, "cut", lambda self, values, own, seen_mm: seen.append(seen_mm) or (values, own))
    added(refiner, label_map, case)
    inside = nib.affines.apply_affine(affine, np.argwhere(truth == 1))
    np.testing.assert_allclose(seen[0], [inside.min(0), inside.max(0)], atol=1e-6)


def test_what_the_network_sees_is_drawn_on_the_mask_s_own_grid(refiner, case):
    truth, affine, image = case
    alone = np.where(truth == 1, truth, 0)
    thick = alone[:, :, ::2]
    placed = affine @ np.diag([1.0, 1.0, 2.0, 1.0])
    found = AddMissing(refiner, FakeSegmenter(refiner.pack, truth))(thick, placed, image, (1, 2))
    np.testing.assert_array_equal(found.label_map, truth[:, :, ::2])
    far = affine.copy()
    far[:3, 3] += 500.0
    found = AddMissing(refiner, FakeSegmenter(refiner.pack, truth))(alone, far, image, (1, 2))
    assert found.said == ["pea: missing from the mask, and not added: the U-Net does not see it in the image"]


def test_a_network_that_fails_costs_no_case(refiner, case, monkeypatch):
    truth, _, _ = case
    alone = np.where(truth == 1, truth, 0)

    def fail(self, image):
        raise RuntimeError("no memory")

    monkeypatch.setattr(FakeSegmenter, "__call__", fail)
    found, _ = added(refiner, alone, case)
    assert found.label_map is alone
    assert found.said == ["both: nothing was added, since the image cannot be read: no memory"]


def test_what_cannot_be_written_is_not_drawn(refiner, case):
    truth, _, _ = case
    found, segmenter = added(refiner, np.where(truth == 1, truth, 0), case, writable=[1])
    assert segmenter.asked == 0
    assert "has no value or file for it" in found.said[0] and not (found.label_map == 2).any()


def test_an_image_that_shows_nothing_is_said(refiner, case):
    truth, affine, image = case
    alone = np.where(truth == 1, truth, 0)
    found, segmenter = added(refiner, alone, (truth, affine, Image(np.zeros_like(image.values), affine)))
    assert segmenter.asked == 0 and len(found.said) == 1
    assert found.said[0].startswith("both: nothing was added: the image has no contrast, ")


def volumes(case, label_map):
    truth, affine, image = case
    return {
        "pred": MetaTensor(torch.from_numpy(label_map[None].copy()), affine=torch.as_tensor(affine)),
        "image": MetaTensor(torch.from_numpy(image.values[None].copy()), affine=torch.as_tensor(affine)),
    }


def with_network(monkeypatch, truth):
    monkeypatch.setattr(Segmenter, "of", classmethod(lambda cls, pack, device="cpu": FakeSegmenter(pack, truth)))


def test_the_transform_adds_only_where_it_is_asked_to(refiner, case, monkeypatch):
    truth, _, _ = case
    with_network(monkeypatch, truth)
    given = volumes(case, np.where(truth == 1, truth, 0).astype(np.uint8))
    done = AddMissingd("pred", refiner, add=True)(given)
    assert done["pred"].dtype == torch.uint8 and done[f"pred{ADDED_SAID}"][0].startswith("pea: ")
    np.testing.assert_array_equal(done["pred"][0], truth)
    for nothing in (AddMissingd("pred", refiner)(given), AddMissingd("pred", refiner, "no_image", add=True)(given)):
        assert nothing.keys() == given.keys() and nothing["pred"] is given["pred"]


def test_a_pack_without_a_network_adds_nothing(refiner, case):
    truth, _, _ = case
    given = volumes(case, np.where(truth == 1, truth, 0).astype(np.uint8))
    done = AddMissingd("pred", refiner, add=True)(given)
    assert done["pred"] is given["pred"] and done[f"pred{ADDED}"] == done[f"pred{ADDED_SAID}"] == []


@pytest.mark.parametrize("add_missing", [True, False])
def test_the_whole_chain_refines_what_it_adds(refiner, case, monkeypatch, caplog, add_missing):
    truth, _, _ = case
    with_network(monkeypatch, truth)
    given = volumes(case, np.where(truth == 1, truth, 0).astype(np.uint8))
    done = RefineShaped("pred", refiner.pack.folder, "linear", image_key="image", add_missing=add_missing)(given)
    assert [bool(one.failure) for one in done["pred_shapes"]] == [False, not add_missing]
    assert ((done["pred"].numpy() == 2).sum() > 0.9 * (truth == 2).sum()) == add_missing
    assert ("pea: missing from the mask; drawn from the image" in caplog.text) == add_missing


def test_voxels_of_labels_that_the_pack_does_not_know_stay(refiner, case):
    truth, _, _ = case
    found, _ = added(refiner, np.where(truth == 2, 7, truth), case)
    np.testing.assert_array_equal(found.label_map, np.where(truth == 2, 7, truth))
    assert "the mask has labels that are left alone" in found.said[0]


def test_nothing_is_added_to_an_empty_mask(refiner, case, monkeypatch):
    truth, affine, image = case
    with_network(monkeypatch, truth)
    refine = RefineShape(refiner.pack.folder, "linear", add_missing=True)
    refined, shapes = refine(np.zeros_like(truth), image.values)
    assert not refined.any() and all(one.failure for one in shapes)


def test_the_whole_chain_refuses_what_cannot_be_done(refiner, case, monkeypatch):
    with pytest.raises(ValueError, match="hippocampus: no U-Net of several structures can draw"):
        RefineShape("hippocampus", add_missing=True)
    with pytest.raises(ValueError, match="give image_key"):
        RefineShaped(organ="brain", add_missing=True)
    with_network(monkeypatch, case[0])
    with pytest.raises(ValueError, match="inward_mm would move what add_missing draws"):
        RefineShape(refiner.pack.folder, add_missing=True, inward_mm=1)


def test_of_several_packs_each_adds_its_own(case, tmp_path, monkeypatch):
    truth, affine, _ = case
    folders = [write_pack(tmp_path / "nuts", {1: "nut"}), write_pack(tmp_path / "both", NAMES)]
    joined = JoinedRefiner(load_packs(folders), "linear")
    assert joined.pack.labels == {1: "nut", 2: "bean", 3: "pea"}
    with_network(monkeypatch, truth)
    label_map = np.where(truth == 1, 2, 0).astype(np.uint8)
    label_map[-3:, -3:, -3:] = 1
    done = AddMissingd("pred", joined, add=True)(volumes(case, label_map))
    np.testing.assert_array_equal(done["pred"][0], np.where(truth == 2, 3, label_map))
    assert done[f"pred{ADDED}"] == ["pea"]


def test_packs_without_a_network_are_refused():
    request = MaskRequest.of("liver", add_missing="true")
    assert request.problem == "liver: no U-Net of several structures can draw what masks lack: leave out add_missing"
    assert MaskRequest.of("hippocampus", add_missing="true").problem.startswith("hippocampus: no U-Net of several")
    assert MaskRequest.of("liver", add_missing="false").problem == ""


@pytest.mark.parametrize("has_file", [True, False])
def test_in_a_folder_of_masks_there_must_be_a_file(refiner, case, tmp_path, monkeypatch, has_file):
    truth, affine, _ = case
    with_network(monkeypatch, truth)
    (tmp_path / "one").mkdir()
    save(tmp_path / "one" / "bean.nii.gz", (truth == 1).astype(np.uint8), affine)
    if has_file:
        save(tmp_path / "one" / "pea.nii.gz", np.zeros(truth.shape, np.uint8), affine)
    data = ReadMaskd("pred", LabelSource(refiner.pack))({**volumes(case, truth), "pred": str(tmp_path / "one")})
    done = AddMissingd("pred", refiner, add=True)(data)
    before, after = (np.asarray(one["pred"][0]) for one in (data, done))
    written = done["pred_given"].in_given_values(before, after)
    np.testing.assert_array_equal(written == 2, (truth == 2) if has_file else np.zeros_like(truth, bool))
    assert ("drawn from the image" if has_file else "has no value or file for it") in done[f"pred{ADDED_SAID}"][0]
