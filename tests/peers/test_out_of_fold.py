"""The command `out_of_fold` on made-up hippocampi: whose network made which mask, and what a second run does."""

import csv

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.cases.split import fold_of_each
from scripts.organ.pack import OrganPack
from scripts.peers.out_of_fold import dsc_of, out_of_fold, training_part
from tests.helpers.plain_data import write_plain_data

OPTIONS = {"minutes": 0.0, "steps": 4, "folds": 2, "networks": "unet,iosnet", "device": "cpu"}
CASES = ["case_0", "case_1", "case_2", "case_3"]  # of five, the last of which is the test part


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five cases, whose images show the organ plainly but for the test case's, which is no image; and a run on them."""
    root = tmp_path_factory.mktemp("out_of_fold")
    write_plain_data(root / "data", 4)
    for part in ("images", "labels"):
        (root / "data" / part / "case_4.nii.gz").write_bytes(b"not to be read")
    return root, run(root)


def run(root, **further) -> str:
    return out_of_fold(str(root / "data"), output_dir=str(root / "out"), **(OPTIONS | further))


def rows_of(file) -> list[dict[str, str]]:
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


def test_every_training_case_has_a_mask_of_a_network_that_has_not_seen_it(made):
    root, scores = made
    rows = rows_of(scores)
    for network in ("unet", "iosnet"):
        assert sorted(file.name for file in (root / "out" / "masks" / network).iterdir()) == [
            f"{case}.nii.gz" for case in CASES
        ]
        own = {row["case"]: row["fold"] for row in rows if row["network"] == network}
        assert sorted(own) == CASES
        for case, fold in own.items():
            folder = root / "out" / "networks" / f"{network}_fold{fold}"
            state = torch.load(folder / "checkpoint.pt", weights_only=True)
            assert (folder / "log.csv").is_file()
            assert state["made_of"]["cases"] == [other for other in CASES if own[other] != fold]
            assert case not in state["made_of"]["cases"] and len(state["made_of"]["cases"]) == 2


def test_scores_are_those_of_the_masks(made):
    root, scores = made
    for row in rows_of(scores):
        files = (root / "out" / "masks" / row["network"], root / "data" / "labels")
        mask, truth = (np.asarray(nib.load(folder / f"{row['case']}.nii.gz").dataobj) > 0 for folder in files)
        assert row["structure"] == "hippocampus"
        assert float(row["dsc %"]) == pytest.approx(200.0 * (mask & truth).sum() / (mask.sum() + truth.sum()), abs=1e-3)


def test_a_mask_is_scored_on_its_own_grid(tmp_path):
    """A label on a grid twice as fine is the same truth."""
    pack = OrganPack.load("hippocampus")
    truth, affine = np.zeros((8, 8, 8), np.uint8), np.eye(4)
    truth[2:6, 2:6, 2:6] = 1
    finer = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    finer[:3, 3] = -0.25
    nib.save(nib.Nifti1Image(truth.repeat(2, 0).repeat(2, 1).repeat(2, 2), finer), tmp_path / "label.nii.gz")
    half = truth.copy()
    half[2:4] = 0
    nib.save(nib.Nifti1Image(half, affine), tmp_path / "mask.nii.gz")
    assert dsc_of(pack, tmp_path / "mask.nii.gz", str(tmp_path / "label.nii.gz")) == {
        "hippocampus": pytest.approx(100.0 * 2 / 3)
    }


def test_a_second_run_makes_only_what_is_missing(made):
    root, scores = made
    kept = [*root.glob("out/networks/*/checkpoint.pt"), *root.glob("out/masks/*/*.nii.gz")]
    before, text = {file: file.stat().st_mtime_ns for file in kept}, open(scores).read()
    assert len(before) == 2 * (2 + 4)
    missing = root / "out" / "masks" / "iosnet" / "case_2.nii.gz"
    mask = np.asarray(nib.load(missing).dataobj)
    missing.unlink()
    assert run(root) == scores and open(scores).read() == text
    assert [file for file in kept if file.stat().st_mtime_ns != before[file]] == [missing]
    assert np.array_equal(np.asarray(nib.load(missing).dataobj), mask)


def test_fewer_cases_are_trained_and_segmented(made, tmp_path):
    root, _ = made
    options = OPTIONS | {"networks": "iosnet", "steps": 1, "cases": 2}
    rows = rows_of(out_of_fold(str(root / "data"), output_dir=str(tmp_path / "out"), **options))
    assert [(row["case"], row["fold"]) for row in rows] == [("case_0", "0"), ("case_3", "1")]
    state = torch.load(tmp_path / "out" / "networks" / "iosnet_fold0" / "checkpoint.pt", weights_only=True)
    assert state["made_of"]["cases"] == ["case_3"]


def test_all_of_the_pack_s_training_part_is_taken(tmp_path, caplog):
    """Also what a training of one network holds out of it for validation; and no case of the test part."""
    pack = OrganPack.load("thorax")
    assert not pack.split["validation"]
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for name in (*pack.split["train"], *pack.split["test"]):
            (tmp_path / part / name).touch()
    taken = [pair["label"] for pair in training_part(pack, str(tmp_path))]
    assert taken == [str(tmp_path / "labels" / name) for name in pack.split["train"]] and not caplog.messages
    for part in ("images", "labels"):
        (tmp_path / part / pack.split["train"][0]).unlink()
    assert len(training_part(pack, str(tmp_path))) == 25 and "lacks files of the split" in caplog.text


def test_cases_of_a_patient_are_in_one_fold():
    names = ["p_1", "p_2_late", "p_2", "p_10", "p_2_late_b", "q"]
    assert fold_of_each(names, 2) == [0, 1, 1, 0, 1, 1]
    assert fold_of_each(["p_1", "p_2_late", "p_2_late_b"], 2, names) == [0, 1, 1]


def test_what_makes_no_sense_is_refused(made, tmp_path):
    root, _ = made
    for folds in (0, 1, 5):
        with pytest.raises(ValueError, match=f"4 patients cannot be split into {folds} folds: give 2 to 4"):
            run(root, folds=folds)
    with pytest.raises(ValueError, match="made with another cases: remove it, or give another output_dir"):
        run(root, folds=4)
    with pytest.raises(ValueError, match="no training data"):
        out_of_fold(str(tmp_path), output_dir=str(tmp_path / "out"), **OPTIONS)
