"""The job that trains evidence networks: what it keeps, and with what seeds; learning itself is tested elsewhere."""

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.cases.lock import LOCK, FolderInUse, FolderLock
from scripts.evidence.ensemble import EvidenceEnsemble
from scripts.training.evidence import job
from scripts.training.evidence.patches import Example
from tests.helpers.small_pack import write_data, write_pack


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A pack of four training cases, and stand-ins that note what they were asked for."""
    asked = {"drafts": [], "joint": [], "training": []}

    def make_drafts(images, labels, output, intensity, folds, seed):
        asked["drafts"].append((output.parent.name, [file.name for file in labels], folds, seed))
        (output / "step0100").mkdir(parents=True, exist_ok=True)

    class Joint:
        def save(self, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def fit_joint(files, pack):
        asked["joint"].append([file.name for file in files])
        return Joint()

    def load_example(name, *_):
        distance = torch.full((1, 4, 4, 4), float(nib.load(tmp_path / "data" / "labels" / name).shape[0]))
        return Example(distance, distance, [distance], [distance], distance)

    def train_evidence(examples, network, steps, seed):
        asked["training"].append((len(examples), steps, seed, next(network.parameters()).detach().clone()))
        return [0.5] * steps

    monkeypatch.setattr(job, "make_drafts", make_drafts)
    monkeypatch.setattr(job, "fit_joint", fit_joint)
    monkeypatch.setattr(job, "load_example", load_example)
    monkeypatch.setattr(job, "train_evidence", train_evidence)
    monkeypatch.setattr(job.JointShapeModel, "load", lambda path: path)
    write_data(tmp_path / "data", 4)
    write_pack(tmp_path / "pack", split={"train": [f"box_{k}.nii.gz" for k in range(4)]})
    return tmp_path, asked


def run(folder, **options):
    return job.evidence(str(folder / "data"), str(folder / "pack"), str(folder / "cache"), steps=3, folds=2, **options)


def test_members_have_seeds_of_their_own_and_the_card_says_what_they_saw(folder):
    place, asked = folder
    run(place, seed=7, hold_out=1)
    (count, steps, first, weights), (_, _, second, other) = asked["training"]
    assert (count, steps, first, second) == (2, 3, 7, 8)
    assert not torch.equal(weights, other)
    ensemble = EvidenceEnsemble.load(place / "pack" / job.EVIDENCE_FILE)
    assert len(ensemble.members) == 2 and ensemble.structures == ["boxes"]
    assert ensemble.card["trained_on"] == ["box_0.nii.gz", "box_2.nii.gz"]
    assert (ensemble.card["seed"], ensemble.card["final_losses"]) == (7, [0.5, 0.5])


def test_joint_models_have_not_seen_the_fold_that_they_serve(folder):
    place, asked = folder
    run(place)
    assert asked["joint"] == [["box_1.nii.gz", "box_3.nii.gz"], ["box_0.nii.gz", "box_2.nii.gz"]]


def test_what_is_kept_serves_the_same_question_only(folder):
    place, asked = folder
    for options in ({}, {}, {"seed": 1}):
        run(place, members=1, **options)
    caches = [name for name, *_ in asked["drafts"]]
    assert caches[0] == caches[1] != caches[2]
    assert len(asked["joint"]) == 4  # two folds, for each seed; nothing for the repetition
    values = np.asarray(nib.load(place / "data" / "labels" / "box_3.nii.gz").dataobj)
    nib.save(nib.Nifti1Image(values, np.eye(4)), place / "data" / "labels" / "box_4.nii.gz")
    write_pack(place / "pack", split={"train": ["box_0.nii.gz", "box_4.nii.gz"]})
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), place / "data" / "images" / "box_4.nii.gz")
    run(place, members=1)
    assert asked["drafts"][-1][0] not in caches and asked["drafts"][-1][1] == ["box_0.nii.gz", "box_4.nii.gz"]


def test_two_trainings_at_once_do_not_share_what_is_kept(folder):
    place, asked = folder
    run(place, members=1)
    (cache,) = (place / "cache").iterdir()
    assert not (cache / LOCK).exists()
    lock = FolderLock(cache)
    with pytest.raises(FolderInUse, match="is in use by process"):
        run(place, members=1)
    lock.release()
    run(place, members=1)
