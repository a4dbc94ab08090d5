"""Which prediction belongs to which label, in flat folders and run outputs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.evaluation.pairing import check_same_grid, find_predictions, pair_methods

AFFINE = np.array([[-0.9, 0.1, 0, 50], [0.1, 0.9, 0, -20], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])


def write(path: Path, shape=(4, 5, 6), affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), affine), path)
    return path


@pytest.fixture
def labels(tmp_path) -> Path:
    for name in ("scan_1", "scan_10", "scan_2"):
        write(tmp_path / "labels" / f"{name}.nii.gz")
    return tmp_path / "labels"


def test_flat_folder_with_suffixes(tmp_path, labels):
    for name in ("scan_1_seed7.nii.gz", "scan_10_seed7.nii.gz", "scan_10_seed8.nii", "scan_2.nii.gz"):
        write(tmp_path / "flat" / name)
    write(tmp_path / "flat" / ".scan_2.nii.gz")
    pairing = pair_methods(labels, {"initial": tmp_path / "flat"})
    assert [(case.case, case.patient) for case in pairing.cases] == [
        ("scan_10_seed7", "scan_10"),
        ("scan_10_seed8", "scan_10"),
        ("scan_1_seed7", "scan_1"),
        ("scan_2", "scan_2"),
    ]
    assert all(case.label.name == f"{case.patient}.nii.gz" for case in pairing.cases)


def test_run_output_pairs_with_a_flat_folder(tmp_path, labels):
    write(tmp_path / "flat" / "scan_1_seed7.nii.gz")
    for stage in ("initial", "refined", "paper"):
        write(tmp_path / "run" / "scan_1_seed7" / f"scan_1_seed7_{stage}.nii.gz")
    run = tmp_path / "run"
    methods = {"initial": run, "cnn": tmp_path / "flat", "refined": run, "other": run, "paper": f"{run}::paper"}
    (case,) = pair_methods(labels, methods).cases
    assert case.case == "scan_1_seed7"
    assert {method: path.name.split("_")[-1] for method, path in case.predictions.items()} == {
        "initial": "initial.nii.gz",
        "cnn": "seed7.nii.gz",
        "refined": "refined.nii.gz",
        "other": "refined.nii.gz",
        "paper": "paper.nii.gz",
    }


def test_stage_in_a_flat_folder(tmp_path):
    for stage in ("initial", "refined"):
        write(tmp_path / f"scan_1_{stage}.nii.gz")
    assert list(find_predictions(f"{tmp_path}::refined", "ours")) == ["scan_1"]
    write(tmp_path / "scan_1" / "scan_1_refined.nii.gz")
    with pytest.raises(ValueError, match="both case 'scan_1'"):
        find_predictions(f"{tmp_path}::refined", "ours")


def test_missing_folders_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        find_predictions(tmp_path / "nowhere", "ours")
    with pytest.raises(ValueError, match="<case>_refined.nii.gz"):
        find_predictions(tmp_path, "ours")


def test_incomplete_methods(tmp_path, labels):
    for name in ("scan_1", "scan_2"):
        write(tmp_path / "a" / f"{name}.nii.gz")
    write(tmp_path / "b" / "scan_1.nii.gz")
    methods = {"initial": tmp_path / "a", "ours": tmp_path / "b"}
    with pytest.raises(ValueError, match="scan_2: ours"):
        pair_methods(labels, methods)
    pairing = pair_methods(labels, methods, allow_missing=True)
    assert [case.case for case in pairing.cases] == ["scan_1"]
    assert pairing.incomplete == {"scan_2": ["ours"]}


def test_chosen_patients_and_strays(tmp_path, labels):
    for name in ("scan_1", "scan_2", "stranger"):
        write(tmp_path / "a" / f"{name}.nii.gz")
    pairing = pair_methods(labels, {"initial": tmp_path / "a"}, patients=["scan_2", "scan_10"])
    assert [case.case for case in pairing.cases] == ["scan_2"]
    assert pairing.without_label == ["stranger"]
    assert pairing.without_prediction == ["scan_10"]
    with pytest.raises(ValueError, match="lacks the labels scan_3"):
        pair_methods(labels, {"initial": tmp_path / "a"}, patients=["scan_3"])


def test_nothing_pairs(tmp_path, labels):
    write(tmp_path / "a" / "stranger.nii.gz")
    with pytest.raises(ValueError, match="no prediction belongs to a label"):
        pair_methods(labels, {"initial": tmp_path / "a"})


def test_grids(tmp_path):
    label = write(tmp_path / "label.nii.gz")
    check_same_grid(write(tmp_path / "same.nii.gz"), label)
    check_same_grid(write(tmp_path / "trailing.nii.gz", (4, 5, 6, 1)), label)
    with pytest.raises(ValueError, match=r"flat.nii.gz has the shape \(4, 5, 7\)"):
        check_same_grid(write(tmp_path / "flat.nii.gz", (4, 5, 7)), label)
    shifted = AFFINE.copy()
    shifted[2, 3] += 2.5
    with pytest.raises(ValueError, match="moved.nii.gz and .*label.nii.gz .* 2.5 mm apart"):
        check_same_grid(write(tmp_path / "moved.nii.gz", affine=shifted), label)
    turned = AFFINE.copy()
    turned[0, 0] *= 1.05
    with pytest.raises(ValueError, match="apart in the world"):
        check_same_grid(write(tmp_path / "turned.nii.gz", affine=turned), label)


def report(folder: Path, **states: str) -> None:
    cases = [{"case": case, "status": status} for case, status in states.items()]
    (folder / "report.json").write_text(json.dumps({"cases": cases}))


def test_only_what_the_report_of_a_run_lists_is_found(tmp_path, labels):
    """Masks of an earlier run, of a case that is not in this one and of one that failed in it, are not scored."""
    for case in ("scan_1", "scan_10", "scan_2"):
        for stage in ("initial", "refined"):
            write(tmp_path / "run" / case / f"{case}_{stage}.nii.gz")
    methods = {stage: f"{tmp_path / 'run'}::{stage}" for stage in ("initial", "refined")}
    assert len(pair_methods(labels, methods).cases) == 3
    report(tmp_path / "run", scan_1="kept", scan_2="failed")
    pairing = pair_methods(labels, methods)
    assert [case.case for case in pairing.cases] == ["scan_1"]
    assert pairing.kept == {"scan_1": ["initial", "refined"]}
    assert pairing.failed == {"scan_2": ["initial", "refined"]} and not pairing.incomplete


def test_a_case_that_failed_in_a_run_is_left_out_of_all_methods_and_named(tmp_path, labels):
    for case in ("scan_1", "scan_2"):
        write(tmp_path / "masks" / f"{case}.nii.gz")
    write(tmp_path / "run" / "scan_1" / "scan_1_refined.nii.gz")
    report(tmp_path / "run", scan_1="refined", scan_2="failed")
    pairing = pair_methods(labels, {"initial": tmp_path / "masks", "refined": tmp_path / "run"})
    assert [case.case for case in pairing.cases] == ["scan_1"]
    assert pairing.failed == {"scan_2": ["refined"]} and not pairing.kept


def test_a_report_of_another_program_is_not_heeded(tmp_path):
    write(tmp_path / "scan_1" / "scan_1_refined.nii.gz")
    (tmp_path / "report.json").write_text("{}")
    assert list(find_predictions(tmp_path, "ours")) == ["scan_1"]
