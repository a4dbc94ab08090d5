"""Whole evaluations of tiny folders: files, tables, baselines, splits, and what is refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.evaluation.evaluate import Scoring, evaluate, score_folders
from scripts.evaluation.notes import largest_notes
from scripts.evaluation.postprocess import LARGEST, POSTPROCESSING
from scripts.evaluation.scoring import try_to_score
from scripts.organ.pack import Structure
from scripts.report.words import counted
from scripts.run.jobs import run_job
from tests.helpers.pairs import grid, kidneys, label_map, save, world, write_pack

AFFINE = np.array([[-1.0, 0, 0, 50], [0, 0, 2.0, -20], [0, 1.5, 0, 7], [0, 0, 0, 1.0]])
SHAPE = (24, 20, 16)
STRUCTURES = [Structure("whole", (1, 2), Path()), Structure("small", (3,), Path())]


def truth(offset: int = 0) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[4 + offset : 9, 4:12, 4:12] = 1
    labels[9:14, 4:12, 4:12] = 2
    labels[18:21, 10:14, 3:7] = 3
    return labels


def broken(offset: int = 0) -> np.ndarray:
    """The truth with an island, a cavity and one part called the other."""
    labels = truth(offset)
    labels[1:3, 16:19, 1:3] = 1
    labels[10:12, 7:9, 7:9] = 0
    labels[8, 4:12, 4:12] = 2
    return labels


def write(path: Path, labels: np.ndarray, dtype=np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(dtype), AFFINE), path)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folders(tmp_path) -> Path:
    """Three patients; the second has two predictions; the third's small structure is missed."""
    for i, name in enumerate(("p1", "p2", "p3")):
        write(tmp_path / "labels" / f"{name}.nii.gz", truth(i))
    for case, offset in (("p1", 0), ("p2_a", 1), ("p2_b", 1), ("p3", 2)):
        initial = broken(offset)
        if case == "p3":
            initial[initial == 3] = 0
        write(tmp_path / "masks" / f"{case}.nii.gz", initial)
        write(tmp_path / "run" / case / f"{case}_initial.nii.gz", initial)
        write(tmp_path / "run" / case / f"{case}_refined.nii.gz", truth(offset), np.float32)
    return tmp_path


@pytest.fixture
def pack(tmp_path) -> Path:
    settings = {
        "name": "toy",
        "labels": {1: "front", 2: "back", 3: "small"},
        "structures": [{"name": s.name, "labels": list(s.labels)} for s in STRUCTURES],
        "nsd_tolerance_mm": 1.0,
        "split": {"train": ["p1.nii.gz"], "test": ["p2.nii.gz", "p3.nii.gz"]},
    }
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "organ.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "toy"


def test_scores_of_all_methods(folders):
    scoring = Scoring(STRUCTURES, 1.0, (2.0,), postprocessing=POSTPROCESSING)
    methods = {"initial": folders / "masks", "refined": folders / "run"}
    score_folders(folders / "labels", methods, scoring, folders / "eval", resamples=200, processes=1)
    rows = {(r["case"], r["structure"], r["method"]): r for r in read_csv(folders / "eval" / "metrics.csv")}
    assert len(rows) == 4 * 2 * 4
    assert list(rows)[:4] == [("p1", "whole", m) for m in ("initial", *POSTPROCESSING, "refined")]

    initial, filled, refined = (rows["p2_a", "whole", m] for m in ("initial", "largest component + fill", "refined"))
    voxels, island, cavity = 9 * 64, 2 * 3 * 2, 2 * 2 * 2
    assert initial["patient"] == "p2"
    expected = 100 * 2 * (voxels - cavity) / (2 * voxels - cavity + island)
    assert float(initial["dsc"]) == pytest.approx(expected, abs=1e-3)
    assert (initial["components"], initial["holes"]) == ("2", "1")
    assert float(initial["volume_ml"]) == pytest.approx((voxels - cavity + island) * 3e-3)
    for row in (filled, refined):  # the union is scored: which part a voxel has does not matter
        assert (row["dsc"], row["nsd"], row["hd95_mm"], row["assd_mm"]) == ("100", "100", "0", "0")

    missed = rows["p3", "small", "initial"]
    diagonal = math.dist((0, 0, 0), np.multiply(SHAPE, (1, 1.5, 2)))
    assert (missed["dsc"], missed["failed"], missed["components"]) == ("0", "1", "0")
    assert float(missed["hd95_mm"]) == pytest.approx(diagonal, rel=1e-4)

    summary = {(r["structure"], r["method"], r["metric"]): r for r in read_csv(folders / "eval" / "summary.csv")}
    assert summary["small", "initial", "dsc"]["failed"] == "1"
    assert float(summary["small", "initial", "dsc"]["mean"]) == 75
    assert float(summary["small", "refined", "dsc"]["difference"]) == 25
    assert float(summary["all structures", "refined", "hd95_mm"]["relative_change"]) == -100
    assert ("whole", "refined", "nsd_2mm") in summary

    table = (folders / "eval" / "table.md").read_text()
    assert "4 cases of 3 patients" in table
    for heading in ("## whole", "## small", "## all structures", "## All cases", "minus initial"):
        assert heading in table
    assert "| initial | 4 | 75.0 ± 50.0 (100.0) |" in table
    assert "points better than refined in 0 of 8.\n" in table
    assert str(folders) not in table


def test_where_the_largest_component_is_better_is_named():
    scores = {
        "a": {LARGEST: 90.0, "ours": 88.0},
        "b": {LARGEST: 90.0, "ours": 89.6},
        "c": {LARGEST: 80.0, "ours": 76.5},
        "d": {LARGEST: math.nan, "ours": math.nan},  # not counted
    }
    rows = [
        {"case": case, "structure": "whole", "method": method, "dsc": dsc}
        for case, own in scores.items()
        for method, dsc in own.items()
    ]
    (note,) = largest_notes(rows, ["ours"])
    assert note.endswith("points better than ours in 2 of 3: c whole (3.5), a whole (2.0).")
    assert largest_notes([row for row in rows if row["method"] != LARGEST], ["ours"]) == []


@pytest.mark.slow  # each process imports torch anew
def test_two_processes_give_the_same_files(folders, pack):
    folder = {1: folders / "one", 2: folders / "two"}
    for processes, out in folder.items():
        table = evaluate(
            str(folders / "labels"), str(pack), str(out), resamples=300, processes=processes, shape_metrics=False,
            refined=f"{folders}/run",
            initial=f"{folders}/run",
        )  # fmt: skip
        assert table == str(out / "table.md")
    for name in ("metrics.csv", "summary.csv", "table.md"):
        assert (folder[1] / name).read_bytes() == (folder[2] / name).read_bytes()


def test_a_second_evaluation_scores_only_what_is_new_and_writes_the_same(folders, pack, monkeypatch, caplog):
    scored = []

    def score(case, scoring):
        scored.append(case.case)
        return try_to_score(case, scoring)

    def run(**options):
        scored.clear()
        given = {"processes": 1, "resamples": 100, "shape_metrics": False, "initial": str(folders / "masks")}
        evaluate(str(folders / "labels"), str(pack), str(folders / "eval"), **{**given, **options})
        return [file.read_bytes() for file in sorted((folders / "eval").iterdir())], list(scored)

    monkeypatch.setattr("scripts.evaluation.evaluate.try_to_score", score)
    first, cases = run()
    assert cases == ["p1", "p2_a", "p2_b", "p3"]
    with caplog.at_level("INFO"):
        assert run() == (first, [])
    assert "4 cases scored before, skipped" in caplog.text
    file = folders / "eval" / "scores.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-30])  # as a killed evaluation leaves it
    assert run() == (first, ["p3"]) and file.read_text() == whole
    assert run(overwrite=True) == (first, cases)
    write(folders / "masks" / "p2_a.nii.gz", truth(1))
    second, again = run()
    assert again == ["p2_a"] and second != first
    assert run(postprocessing="none")[1] == cases and run(postprocessing="none")[1] == []
    monkeypatch.setattr("scripts.evaluation.scored_before.code_hash", lambda: "of another version")
    assert run(postprocessing="none")[1] == cases


def test_split_of_the_organ_pack(folders, pack):
    evaluate(
        str(folders / "labels"), str(pack), str(folders / "eval"), split="test", postprocessing="none", processes=1,
        shape_metrics=False,
        initial=str(folders / "masks"),
    )  # fmt: skip
    rows = read_csv(folders / "eval" / "metrics.csv")
    assert {row["case"] for row in rows} == {"p2_a", "p2_b", "p3"}
    assert {row["method"] for row in rows} == {"initial"}
    assert "toy, test split" in (folders / "eval" / "table.md").read_text()
    with pytest.raises(ValueError, match="no split 'tset'"):
        evaluate(str(folders / "labels"), str(pack), split="tset", initial=str(folders / "masks"))


def test_without_the_reference_nothing_is_compared(folders, pack):
    evaluate(
        str(folders / "labels"), str(pack), str(folders / "eval"), processes=1, shape_metrics="false",
        ours=f"{folders}/run::refined",
    )  # fmt: skip
    assert "minus initial" not in (folders / "eval" / "table.md").read_text()
    rows = read_csv(folders / "eval" / "metrics.csv")
    assert {row["method"] for row in rows} == {"ours"}
    assert "cd" not in rows[0]


def test_wrong_options_are_refused(folders, pack):
    labels, masks = str(folders / "labels"), str(folders / "masks")
    with pytest.raises(ValueError, match="no method given"):
        evaluate(labels, str(pack))
    with pytest.raises(ValueError, match="postprocessing must be one of"):
        evaluate(labels, str(pack), postprocessing="all", initial=masks)
    scoring = Scoring(STRUCTURES, postprocessing=POSTPROCESSING)
    with pytest.raises(ValueError, match="need the method 'initial'"):
        score_folders(labels, {"ours": masks}, scoring, folders / "eval")
    with pytest.raises(ValueError, match="named like a computed baseline"):
        score_folders(labels, {"initial": masks, next(iter(POSTPROCESSING)): masks}, scoring, folders / "eval")
    with pytest.raises(ValueError, match="no structure"):
        score_folders(labels, {"initial": masks}, Scoring([]), folders / "eval")
    assert not (folders / "eval").exists()


@pytest.fixture(params=["fractions", "truncated", "other grid", "label without labels"])
def bad_file(request, folders) -> str:
    """Spoil a file of the patient p2 in one of several ways; return words of the reason."""
    mask, label = folders / "masks" / "p2_a.nii.gz", folders / "labels" / "p2.nii.gz"
    if request.param == "fractions":
        write(mask, truth() * 0.5, np.float32)
        return "p2_a.nii.gz holds fractions"
    if request.param == "truncated":
        mask.write_bytes(mask.read_bytes()[:-30])
        return "p2_a.nii.gz is truncated or corrupt"
    if request.param == "other grid":
        write(mask, truth()[1:])
        return "p2_a.nii.gz has the shape (23, 20, 16)"
    write(label, truth() * 0.3, np.float32)
    return "p2.nii.gz holds fractions"


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_bad_file_is_named_and_its_case_left_out(folders, pack, bad_file, capsys, caplog, processes):
    def run(name: str) -> Path:
        evaluate(
            str(folders / "labels"), str(pack), str(folders / name), processes=processes, shape_metrics=False,
            initial=str(folders / "masks"), refined=str(folders / "run"),
        )  # fmt: skip
        return folders / name

    with pytest.raises(SystemExit) as stop:
        run("eval")
    assert stop.value.code == 1 and capsys.readouterr().out.splitlines()[-1] == str(folders / "eval" / "table.md")
    table = (folders / "eval" / "table.md").read_text()
    left = {"p1", "p3"} if bad_file.startswith("p2.") else {"p1", "p2_b", "p3"}
    assert {row["case"] for row in read_csv(folders / "eval" / "metrics.csv")} == left
    assert f"{len(left)} cases of {3 - ('p2_b' not in left)} patients" in table
    assert f"Not scored, a file is no good: {counted(4 - len(left), 'case')}: p2_a: {bad_file}" in table
    assert str(folders) not in table
    said = [record.getMessage() for record in caplog.records if "p2_a is not scored" in record.getMessage()]
    assert len(said) == 1 and bad_file in said[0] and str(folders) in said[0]


def test_where_every_file_is_bad_nothing_is_written(folders, pack):
    for file in (folders / "masks").iterdir():
        write(file, truth() * 0.5, np.float32)
    with pytest.raises(ValueError, match="p1.nii.gz holds fractions.*threshold"):
        evaluate(str(folders / "labels"), str(pack), str(folders / "eval"), initial=str(folders / "masks"), processes=1)
    assert not (folders / "eval").exists()


def test_shape_metrics_floors_and_ranks(folders, pack):
    """A perfect mask scores the floor; a missed one the penalty, in diameters of the truth; all are in the tables."""
    methods = {stage: f"{folders}/run::{stage}" for stage in ("initial", "refined")}
    table = Path(evaluate(str(folders / "labels"), str(pack), str(folders / "eval"), processes=1, **methods))
    rows = {(r["case"], r["structure"], r["method"]): r for r in read_csv(folders / "eval" / "metrics.csv")}
    perfect, broken_mask = rows["p1", "whole", "refined"], rows["p1", "whole", "initial"]
    assert perfect["cd"] == perfect["cd_floor"] and perfect["emd"] == perfect["emd_floor"]
    assert float(perfect["point_to_surface_mm"]) < 1e-6
    assert float(broken_mask["cd"]) > 10 * float(broken_mask["cd_floor"])
    assert float(broken_mask["point_to_surface_mm"]) > 0.1
    assert float(perfect["volume_difference_percent"]) == 0
    voxels = 10 * 64
    assert float(broken_mask["volume_difference_percent"]) == pytest.approx(100 * (12 - 8) / voxels, rel=1e-4)

    missed = rows["p3", "small", "initial"]
    diagonal = math.dist((0, 0, 0), np.multiply(SHAPE, (1, 1.5, 2)))
    apart = float(missed["emd"])
    assert float(missed["point_to_surface_mm"]) == pytest.approx(diagonal, rel=1e-4)
    assert float(missed["cd"]) == pytest.approx(2000 * apart**2, rel=1e-4)
    diameter = diagonal / apart  # of a block of 3 x 4 x 4 voxels of 1 x 2 x 1.5 mm, its edges cut
    assert 0.8 < diameter / math.dist((0, 0, 0), (3, 8, 6)) <= 1
    assert float(missed["volume_difference_percent"]) == 100

    summary = {(r["structure"], r["method"], r["metric"]): r for r in read_csv(folders / "eval" / "summary.csv")}
    line = summary["whole", "initial", "cd"]
    floors = [float(rows[c, "whole", "initial"]["cd_floor"]) for c in ("p1", "p2_a", "p2_b", "p3")]
    assert float(line["floor"]) == pytest.approx(np.mean(floors), rel=1e-4)
    assert summary["whole", "initial", "dsc"]["floor"] == ""
    assert summary["whole", "refined", "hd95_mm"]["p"] == "0.25"  # three patients that all improve: 2 / 2³
    text = table.read_text()
    assert "| method | CD ×1000 | floor | EMD | floor | point to surface mm | volume difference % |" in text
    assert ", p 0.25 |" in text and "Wilcoxon" in text and "shared normalisation" in text


@pytest.mark.parametrize(("source", "methods"), [("run", {"initial", "refined"}), ("masks", {"prediction"})])
def test_job_scores_the_stages_of_a_run_or_a_flat_folder(folders, pack, source, methods):
    run_job(
        "evaluate", pred_dir=folders / source, label_dir=folders / "labels", organ=str(pack), split="test",
        output_dir=folders / "eval", shape_metrics=False, processes=1,
    )  # fmt: skip
    rows = read_csv(folders / "eval" / "metrics.csv")
    assert {row["method"] for row in rows} - set(POSTPROCESSING) == methods
    assert {row["case"] for row in rows} == {"p2_a", "p2_b", "p3"}


def test_the_command_scores_a_run_like_the_job(folders, pack):
    options = {"label_dir": str(folders / "labels"), "organ": str(pack), "shape_metrics": False, "processes": 1}
    evaluate(pred_dir=str(folders / "run"), output_dir=str(folders / "eval"), split="test", **options)
    rows = read_csv(folders / "eval" / "metrics.csv")
    assert {row["method"] for row in rows} - set(POSTPROCESSING) == {"initial", "refined"}


def test_job_says_plainly_what_is_wrong(folders, pack):
    options = {"label_dir": folders / "labels", "organ": str(pack), "output_dir": folders / "eval"}
    with pytest.raises(SystemExit, match="nowhere does not exist"):
        run_job("evaluate", pred_dir=folders / "nowhere", **options)


def test_sides_are_scored_each_for_itself(tmp_path):
    """The right one is missed, the left one found: one perfect, one failed."""
    shape, affine = grid("slices first", "anisotropic")
    points = world(shape, affine)
    truth, both = label_map(points), kidneys(points)
    found = np.where(both["left"], truth, 0).astype(np.uint8)
    save(tmp_path / "labels" / "a.nii.gz", truth, affine)
    save(tmp_path / "masks" / "a.nii.gz", found, affine)
    evaluate(
        str(tmp_path / "labels"),
        str(write_pack(tmp_path / "pack")),
        str(tmp_path / "eval"),
        processes=1,
        shape_metrics=False,
        initial=str(tmp_path / "masks"),
    )
    rows = {(r["structure"], r["method"]): r for r in read_csv(tmp_path / "eval" / "metrics.csv")}
    for method in ("initial", "largest component + fill"):
        left, right = rows["kidney_left", method], rows["kidney_right", method]
        assert float(left["dsc"]) == 100 and float(right["dsc"]) == 0
        assert float(right["volume_ml"]) == 0 and float(left["components"]) == 1
        assert float(left["volume_ml"]) == pytest.approx(both["left"].sum() * 0.015)


def test_labels_on_a_finer_grid_are_brought_to_the_masks(folders, pack):
    """Labels of half the voxel size in the plane, each voxel of the masks' cut in four: the same scores."""

    def run(name: str, **options) -> str:
        fixed = {"processes": 1, "shape_metrics": False, "initial": str(folders / "masks")}
        return evaluate(str(folders / "labels"), str(pack), str(folders / name), **fixed, **options)

    plain = run("plain")
    fine = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    fine[:3, 3] = (AFFINE @ [-0.25, -0.25, 0, 1])[:3]
    for file in (folders / "labels").iterdir():
        values = np.asarray(nib.load(file).dataobj).repeat(2, 0).repeat(2, 1)
        nib.save(nib.Nifti1Image(values, fine), file)
    with pytest.raises(ValueError, match="has the shape .* --resample_labels true"):
        run("refused")
    brought = run("brought", resample_labels=True)
    first, second = (read_csv(Path(table).with_name("metrics.csv")) for table in (plain, brought))
    assert len(first) > 4 and first == second
    assert "by the nearest voxel" in Path(brought).read_text() and "nearest voxel" not in Path(plain).read_text()


def test_failed_and_kept_cases_of_a_run_are_counted_in_the_table(folders, pack):
    states = {"p1": "refined", "p2_a": "kept", "p2_b": "refined", "p3": "failed"}
    cases = [{"case": case, "status": status} for case, status in states.items()]
    (folders / "run" / "report.json").write_text(json.dumps({"cases": cases}))
    run_job(
        "evaluate", pred_dir=folders / "run", label_dir=folders / "labels", organ=str(pack),
        output_dir=folders / "eval", shape_metrics=False, processes=1,
    )  # fmt: skip
    assert {row["case"] for row in read_csv(folders / "eval" / "metrics.csv")} == {"p1", "p2_a", "p2_b"}
    text = (folders / "eval" / "table.md").read_text()
    assert "failed in the run: 1 case: p3 (initial, refined)" in text
    assert "which the run kept: 1 case: p2_a (initial, refined)" in text


def score(folders: Path, pack: Path, **options) -> str:
    fixed = {"processes": 1, "shape_metrics": False, "output_dir": str(folders / "eval")}
    return Path(evaluate(str(folders / "labels"), str(pack), **{**fixed, **options})).read_text()


def test_of_many_labels_without_a_prediction_twenty_are_named(folders, pack):
    for number in range(30):
        write(folders / "labels" / f"q{number:02d}.nii.gz", truth())
    text = score(folders, pack, initial=str(folders / "masks"))
    assert "Not scored: 30 labels without a prediction." in text
    assert "q18, q19 and 10 more." in text and "q20" not in text


def test_what_has_no_partner_is_named_and_counted_in_the_head_and_on_the_console(folders, pack, capsys):
    write(folders / "labels" / "p4.nii.gz", truth())
    write(folders / "masks" / "stranger.nii.gz", truth())
    head, listed = score(folders, pack, initial=str(folders / "masks")).split("## whole")[0], capsys.readouterr().out
    for text in (head, listed):
        assert "Scored: 4 cases. Not scored: 1 label without a prediction, 1 prediction without a label." in text
        assert "Labels without a prediction, not scored: p4." in text
        assert "Predictions without a label, not scored: stranger." in text
    row = next(line.split() for line in listed.splitlines() if line.startswith("small"))
    assert row[:4] == ["small", "initial", "4", "75.0"] and row[-1] == "1"  # one of four was missed
    lengths = {len(line) for line in listed.splitlines() if line.startswith(("structure", "whole", "small"))}
    assert len(lengths) == 1  # columns stand one below the other


def test_missing_predictions_count_as_failures_on_request(folders, pack):
    write(folders / "labels" / "p4.nii.gz", truth())
    (folders / "run" / "p1" / "p1_refined.nii.gz").unlink()
    text = score(folders, pack, initial=str(folders / "masks"), refined=str(folders / "run"), missing_as_failures=True)
    assert "Scored: 5 cases. Of these 2 lack a prediction and count as empty masks." in text
    assert "p1 (refined); p4 (initial, refined)" in text
    rows = {(r["case"], r["structure"], r["method"]): r for r in read_csv(folders / "eval" / "metrics.csv")}
    for case, method in (("p4", "initial"), ("p4", "refined"), ("p4", "largest component + fill"), ("p1", "refined")):
        missing = rows[case, "whole", method]
        assert (missing["dsc"], missing["failed"], missing["recall"]) == ("0", "1", "0")
    assert rows["p1", "whole", "initial"]["failed"] == "0"


def test_precision_recall_and_signed_volume_bias(folders, pack):
    text = score(folders, pack, initial=str(folders / "masks"))
    rows = {(r["case"], r["structure"], r["method"]): r for r in read_csv(folders / "eval" / "metrics.csv")}
    voxels, island, cavity = 9 * 64, 2 * 3 * 2, 2 * 2 * 2  # of p2's truth, and what is too much and too little
    row = {key: float(rows["p2_a", "whole", "initial"][key]) for key in ("precision", "recall", "volume_bias_percent")}
    found = voxels - cavity + island
    assert row["precision"] == pytest.approx(100 * (voxels - cavity) / found, rel=1e-4)
    assert row["recall"] == pytest.approx(100 * (voxels - cavity) / voxels, rel=1e-4)
    assert row["volume_bias_percent"] == pytest.approx(100 * (found / voxels - 1), rel=1e-4)
    missed = rows["p3", "small", "initial"]
    assert math.isnan(float(missed["precision"] or "nan"))
    assert (missed["recall"], missed["volume_bias_percent"]) == ("0", "-100")
    assert "| method | precision % | recall % | volume bias % |" in text


def elsewhere(touching=0):
    """A mask far from the label, but for some voxels of it."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[20:23, 0:3, 12:15] = 1
    labels[tuple(np.argwhere(truth() == 1)[:touching].T)] = 1
    return labels


@pytest.mark.parametrize("touching", [0, 1])
def test_masks_of_another_organ_are_refused(folders, pack, touching):
    for file in (folders / "masks").iterdir():
        write(file, elsewhere(touching))
    masks = str(folders / "masks")
    said = (
        f"initial: 4 of 4 masks lie elsewhere .* {masks} or {folders / 'labels'} is the wrong folder: .* another organ"
    )
    with pytest.raises(ValueError, match=said):
        score(folders, pack, initial=masks)
    assert not (folders / "eval").exists()


def test_a_refused_evaluation_leaves_the_scores_of_an_earlier_one(folders, pack):
    score(folders, pack, initial=str(folders / "masks"))
    scores = folders / "eval" / "scores.jsonl"
    before = scores.read_text()
    other = folders / "other"
    other.mkdir()
    for file in (folders / "masks").iterdir():
        write(other / file.name, elsewhere())
    with pytest.raises(ValueError, match="another organ"):
        score(folders, pack, initial=str(other))
    assert scores.read_text() == before


def test_the_folder_that_is_probably_wrong_is_named(folders, pack):
    other = folders / "other"
    other.mkdir()
    for file in (folders / "masks").iterdir():
        write(other / file.name, elsewhere())
    masks = str(folders / "masks")
    with pytest.raises(
        ValueError, match=f"refined: 4 of 4 .* probably {other} is the wrong folder, since other methods'"
    ):
        score(folders, pack, initial=masks, refined=str(other))
    for file in (folders / "masks").iterdir():
        write(file, elsewhere(1))
    with pytest.raises(ValueError, match=f"probably {folders / 'labels'} is the wrong folder, since no method's"):
        score(folders, pack, initial=masks, refined=str(other))


def test_a_single_mask_elsewhere_is_noted(folders, pack):
    write(folders / "masks" / "p1.nii.gz", elsewhere())
    text = score(folders, pack, initial=str(folders / "masks"), postprocessing="none")
    assert "Look at these, they lie elsewhere than their labels: p1, whole (initial)." in text


def test_one_patient_has_no_p(folders, pack):
    for case in ("p2_a", "p2_b", "p3"):
        (folders / "masks" / f"{case}.nii.gz").unlink()
    (folders / "one").mkdir()
    write(folders / "one" / "p1.nii.gz", truth())
    text = score(folders, pack, initial=str(folders / "masks"), refined=str(folders / "one"), postprocessing="none")
    (line,) = [line for line in text.split("## whole")[1].split("## small")[0].splitlines() if "| refined | +" in line]
    assert ", p" not in line and "[" not in line


def test_plots_and_latex(folders, pack):
    score(folders, pack, initial=str(folders / "masks"), refined=str(folders / "run"))
    first = {}
    for name in ("boxes", "paired"):
        picture = matplotlib.image.imread(folders / "eval" / f"{name}.png")[..., :3]
        assert (picture < 0.9).mean() > 0.01  # something is drawn
        first[name] = (folders / "eval" / f"{name}.svg").read_bytes()
        assert first[name].lstrip().startswith(b"<?xml")
    table = (folders / "eval" / "table.tex").read_text()
    assert r"\begin{tabular}{llrrrrr}" in table and r"NSD 1 mm \%" in table
    assert r"small & initial & 4 & $75.0 \pm 50.0$" in table
    score(folders, pack, initial=str(folders / "masks"), refined=str(folders / "run"))
    assert all((folders / "eval" / f"{name}.svg").read_bytes() == text for name, text in first.items())
