"""The structures of a run, those first that most need a look."""

import csv
import json

import pytest

from scripts.report.rank import rank


def part(name: str, dsc: float | None, failure: str = "", outside: str = "") -> dict:
    quality: dict = {}
    if dsc is not None:
        quality["predicted_dsc"] = {"initial": [dsc - 5, dsc - 9, dsc], "refined": [dsc, dsc - 4, dsc + 3]}
        quality["predicted_hd95_mm"] = {"initial": [9.0, 5.0, 12.0], "refined": [4.0, 2.0, 8.0]}
        quality |= {"outside_prior": bool(outside), "outside_prior_reason": outside}
    return {"name": name, "status": "kept" if failure else "refined", "failure": failure, "quality": quality}


def write_report(folder, cases: dict) -> str:
    records = [{"case": name, "structures": parts} for name, parts in cases.items()]
    (folder / "report.json").write_text(json.dumps({"cases": records}))
    return str(folder)


def test_the_worst_come_first_and_those_that_nothing_is_known_of_before_them(tmp_path):
    cases = {
        "a": [part("heart", 91.0), part("aorta", 62.0)],
        "b": [part("heart", None, failure="the alignment failed"), part("aorta", 75.0)],
        "c": [part("heart", 88.0, outside="its Dice with its own fit is 0.40"), part("aorta", 97.0)],
    }
    text = rank(write_report(tmp_path, cases))
    lines = text.splitlines()
    assert [line.split()[:2] for line in lines[1:7]] == [
        ["b", "heart"],
        ["c", "heart"],
        ["a", "aorta"],
        ["b", "aorta"],
        ["a", "heart"],
        ["c", "aorta"],
    ]
    assert "the alignment failed" in lines[1] and "own fit is 0.40" in lines[2]
    assert "62.0" in lines[3] and "58.0 to 65.0" in lines[3] and "57.0" in lines[3]
    with open(tmp_path / "rank.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert [float(rows[2][key]) for key in ("predicted_dsc", "dsc_low", "predicted_hd95_mm")] == [62.0, 58.0, 4.0]


def test_a_long_table_is_cut_but_not_the_file(tmp_path):
    write_report(tmp_path, {f"c{n:02d}": [part("heart", 60.0 + n)] for n in range(12)})
    text = rank(str(tmp_path), shown=5)
    assert "and 7 more" in text and len(text.splitlines()) == 1 + 5 + 1 + 1
    assert len((tmp_path / "rank.csv").read_text().splitlines()) == 13


def test_a_folder_without_a_run_or_predictions_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no report of a run"):
        rank(str(tmp_path))
    write_report(tmp_path, {"a": [part("heart", None)]})
    with pytest.raises(ValueError, match="nothing was predicted in this run"):
        rank(str(tmp_path))
