"""The job that trains a voxel head: from images and label maps to a file that reads them."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.cases.lock import LOCK, FolderInUse, FolderLock
from scripts.evidence.channels import CHANNELS, OF_FITS, OF_IMAGE, OF_MASK, OF_PLACE
from scripts.evidence.head import VoxelHead
from scripts.organ.pack import BLIND_FILE, EVIDENCE_FILE, OrganPack
from scripts.refine.chain import Refiner
from scripts.refine.stages import Image
from scripts.training.evidence import job
from scripts.training.evidence.examples import (
    PARTS,
    Example,
    load_examples,
    make_examples,
    read_case,
    save_examples,
)
from scripts.training.evidence.training import train_net
from tests.helpers.bright_head import bright_image, pack_with_bright_head
from tests.helpers.mean_shape import dice, mean_shape

CASES = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three hippocampi of one shape in noise, and a pack whose split names two of them."""
    folder = tmp_path_factory.mktemp("data")
    truth, affine = mean_shape("plain")
    for name in ("images", "labels", "network"):
        (folder / name).mkdir()
    for number in range(CASES):
        image = bright_image(truth, affine).values + np.random.default_rng(number).normal(0, 20, truth.shape)
        for part, values in (("images", image.astype(np.float32)), ("labels", truth)):
            nib.save(nib.Nifti1Image(values, affine), folder / part / f"case_{number}.nii.gz")
    small = np.where(ndimage.binary_erosion(truth > 0), truth, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(small, affine), folder / "network" / "case_0.nii.gz")
    pack = pack_with_bright_head(folder / "pack")
    text = (pack / "organ.yaml").read_text()
    start, end = text.index("split:"), text.index("provenance:")
    split = "split:\n  train: [case_0.nii.gz, case_1.nii.gz]\n  test: [case_2.nii.gz]\n"
    (pack / "organ.yaml").write_text(text[:start] + split + text[end:])
    return folder


def run(data, tmp_path, **options):
    options = {"drafts": 1, "steps": 150, "output": str(tmp_path / "evidence.safetensors")} | options
    return job.evidence(str(data), str(data / "pack"), cache_dir=str(tmp_path / "cache"), **options)


@pytest.mark.slow
def test_a_trained_head_mends_a_case_that_it_has_not_seen(data, tmp_path):
    said = run(data, tmp_path, drafts=4, steps=400, mask_dir=str(data / "network"))
    assert "2 patients" in said
    head = VoxelHead.load(tmp_path / "evidence.safetensors")
    assert head.card["trained_on"] == ["case_0.nii.gz", "case_1.nii.gz"] and head.card["masks"] == ["network"]
    assert head.structures == ["hippocampus"] and head.step_mm == 1.0
    head.save(data / "pack" / EVIDENCE_FILE)
    truth, affine = mean_shape("plain")
    small = np.where(ndimage.binary_erosion(truth > 0), truth, 0).astype(np.uint8)
    image = nib.load(data / "images" / "case_2.nii.gz").get_fdata()
    refined, (case,) = Refiner(data / "pack").refine(small, affine, Image(image, affine))
    assert case.quality["evidence"] == "image"
    assert dice(refined > 0, truth > 0) > dice(small > 0, truth > 0) + 0.1


def test_examples_are_of_the_deformed_patient_and_kept_as_plain_arrays(data, tmp_path):
    refiner = Refiner(data / "pack", see=False)
    cases = [
        read_case(f"case_{k}.nii.gz", data / "images", data / "labels", [data / "network"], refiner) for k in (0, 1)
    ]
    assert len(cases[0].masks) == 1 and not cases[1].masks
    found = make_examples(cases[0], cases[1:], cases[0].masks[0], refiner, 1.0, seed=3)
    own = found["hippocampus"]
    values, truth = own.values, own.truth
    assert values.shape == (len(truth), len(CHANNELS)) and 0.02 < truth.mean() < 0.6
    assert own.at.shape == (len(truth), 3) and len(np.unique(own.at, axis=0)) == len(truth)
    by_mask = dict(zip(CHANNELS, values.astype(float).T, strict=True))
    assert (truth[by_mask["mask"] < 0]).mean() > 0.9 > 0.5 > (truth[by_mask["mask"] > 2]).mean()
    assert by_mask["ratio_0"][truth].mean() > by_mask["ratio_0"][~truth].mean() + 0.5
    again = make_examples(cases[0], cases[1:], cases[0].masks[0], refiner, 1.0, seed=3)
    np.testing.assert_array_equal(again["hippocampus"].values, values)
    alone = make_examples(cases[0], cases[1:], cases[0].masks[0], refiner, 1.0, seed=3, prior=False)["hippocampus"]
    told = dict(zip(CHANNELS, alone.values.astype(float).T, strict=True))
    np.testing.assert_array_equal(told["fit"], told["mask"])
    assert np.isnan(told["linear"]).all() and (by_mask["fit"] != by_mask["mask"]).any()
    save_examples(tmp_path / "kept.npz", {"hippocampus": [own, again["hippocampus"]], "other": [own]})
    kept = load_examples(tmp_path / "kept.npz")
    assert {name: len(ones) for name, ones in kept.items()} == {"hippocampus": 2, "other": 1}
    for part in PARTS:
        np.testing.assert_array_equal(getattr(kept["hippocampus"][1], part), getattr(own, part))


def test_what_is_kept_is_not_made_again_and_serves_the_same_question_only(data, tmp_path, monkeypatch):
    asked = []

    def made(case, donors, drafts, refiner, step_mm, seed, prior):
        asked.append((case.name, [donor.name for donor in donors], drafts, step_mm))
        return {"hippocampus": [made_up(np.random.default_rng(seed).normal(size=(216, len(CHANNELS))))]}

    monkeypatch.setattr(job, "_of_case", made)
    for options in ({}, {}, {"drafts": 2}, {"seed": 5}, {"mask_dir": str(data / "network")}, {"without": "prior"}):
        run(data, tmp_path, steps=3, **options)
    assert [name for name, *_ in asked] == ["case_0.nii.gz", "case_1.nii.gz"] * 5
    assert len(list((tmp_path / "cache").iterdir())) == 5
    asked.clear()
    run(data, tmp_path, steps=3, cases=1, drafts=7)
    assert [(name, drafts) for name, _, drafts, _ in asked] == [("case_0.nii.gz", 7)]


def test_a_head_may_go_without_prior_or_image(data, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(job, "_of_case", lambda *_: {"hippocampus": [made_up(rng.normal(size=(216, len(CHANNELS))))]})
    used = {}
    for without in ("", "prior", "image"):
        run(data, tmp_path, steps=3, without=without)
        head = VoxelHead.load(tmp_path / "evidence.safetensors")
        assert head.card.get("without", "") == without
        (net,) = head.nets
        used[without] = {name for name, std in zip(CHANNELS, net.std, strict=True) if std < torch.inf}
    assert used[""] == set(CHANNELS)
    assert used["prior"] == {*OF_MASK, *OF_IMAGE}
    assert used["image"] == {*OF_MASK, *OF_FITS, *OF_PLACE}
    with pytest.raises(ValueError, match="--without is prior or image, not shape"):
        run(data, tmp_path, without="shape")


def test_a_head_for_masks_alone_needs_no_images(data, tmp_path):
    """Only label maps are there, with another model's values."""
    (tmp_path / "data" / "labels").mkdir(parents=True)
    for file in sorted((data / "labels").iterdir()):
        image = nib.load(file)
        renumbered = np.where(np.asanyarray(image.dataobj) > 0, 7, 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(renumbered, image.affine), tmp_path / "data" / "labels" / file.name)
    pack = tmp_path / "pack"
    shutil.copytree(data / "pack", pack)
    (pack / BLIND_FILE).unlink(missing_ok=True)
    text = (pack / "organ.yaml").read_text()
    (pack / "organ.yaml").write_text(text.replace("\nsources:", "\nsources:\n  other: {7: anterior}\n", 1))
    options = {"cache_dir": str(tmp_path / "cache"), "drafts": 1, "steps": 3, "source": "other"}
    with pytest.raises(ValueError, match="has no folder images: add it, or train for masks alone by --without image"):
        job.evidence(str(tmp_path / "data"), str(pack), **options)
    said = job.evidence(str(tmp_path / "data"), str(pack), without="image", split="", **options)
    assert "3 patients" in said and VoxelHead.load(pack / BLIND_FILE).card["without"] == "image"
    assert Refiner(pack).blind is not None
    with pytest.raises(ValueError, match="say by --output where it is to be written"):
        job.evidence(str(data), str(pack), without="prior", **options)


def test_two_trainings_at_once_do_not_share_what_is_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_of_case", lambda *_: {"hippocampus": [made_up(np.zeros((216, len(CHANNELS))))]})
    run(data, tmp_path, steps=3)
    (cache,) = (tmp_path / "cache").iterdir()
    assert not (cache / LOCK).exists()
    lock = FolderLock(cache)
    with pytest.raises(FolderInUse, match="is in use by process"):
        run(data, tmp_path, steps=3)
    lock.release()
    run(data, tmp_path, steps=3)


def test_an_empty_label_map_is_named(data, tmp_path):
    truth, affine = mean_shape("plain")
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(np.zeros_like(truth), affine), tmp_path / "labels" / "case_0.nii.gz")
    with pytest.raises(ValueError, match="case_0.nii.gz is empty where its image lies"):
        read_case("case_0.nii.gz", data / "images", tmp_path / "labels", [], Refiner(data / "pack", see=False))


def test_the_sides_of_mirror_images_share_a_net():
    assert job._sides(OrganPack.load("brain"))[:2] == [
        ["hippocampus_right", "hippocampus_left"],
        ["amygdala_right", "amygdala_left"],
    ]
    assert job._sides(OrganPack.load("thorax")) == [["oesophagus"], ["heart"], ["trachea"], ["aorta"]]


def made_up(values: np.ndarray, side: int = 6) -> Example:
    """An example on a cube of voxels, true where its first channel is negative."""
    at = np.argwhere(np.ones((side, side, side), bool)).astype(np.int16)
    return Example(at, values.astype(np.float16), values[:, 0] < 0)


def random_values(rng: np.random.Generator, side: int) -> np.ndarray:
    values = rng.normal(size=(side**3, len(CHANNELS)))
    values[:, 7] = np.nan  # a joint model that the pack has not
    return values


def test_a_net_learns_which_channel_tells():
    rng = np.random.default_rng(0)
    examples = []
    for values in (random_values(rng, 20) for _ in range(3)):
        truth = values[:, 3] + 0.2 * rng.normal(size=len(values)) > 0.5
        examples.append(replace(made_up(values, 20), truth=truth))
    net = train_net(examples, 120, 0)
    other = made_up(random_values(rng, 12), 12)
    odds = VoxelHead({"a": net}, 1.0).log_odds("a", other.values.astype(np.float32), other.at)
    assert ((odds > 0) == (other.values[:, 3] > 0.5)).mean() > 0.93


def test_a_net_learns_what_a_neighbour_tells():
    """A voxel is the organ's where the one before it is bright: no channel of its own says so."""
    rng = np.random.default_rng(0)

    def moved(side: int) -> Example:
        own = made_up(random_values(rng, side), side)
        bright = own.values[:, 5].reshape(side, side, side) > 0
        return replace(own, truth=np.roll(bright, 1, axis=0).ravel())

    net = train_net([moved(20) for _ in range(3)], 200, 0)
    other = moved(12)
    odds = VoxelHead({"a": net}, 1.0).log_odds("a", other.values.astype(np.float32), other.at)
    inner = other.at[:, 0] > 0
    assert ((odds > 0) == other.truth)[inner].mean() > 0.85
