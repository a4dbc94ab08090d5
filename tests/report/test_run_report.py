"""The report of a run."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.report.run_report import FAILED, REFINED, CaseRecord, RunReport, peak_memory_mb, plain, read_report


def test_plain_values():
    value = {
        1: np.float32(0.25),
        "array": np.arange(3),
        "nan": math.nan,
        "infinite": np.float64("inf"),
        "flag": np.bool_(False),
        "nested": [{"pair": (1, None)}],
        "long": 1 / 3,
    }
    assert plain(value) == {
        "1": 0.25,
        "array": [0, 1, 2],
        "nan": None,
        "infinite": None,
        "flag": False,
        "nested": [{"pair": [1, None]}],
        "long": 0.333333,
    }


def test_report_is_there_after_every_case(tmp_path):
    report = RunReport(tmp_path, "refine", {"organ": "liver", "image_dir": None, "folder": tmp_path})
    report.start("cpu")
    report.add(CaseRecord("a", {"pred": "a.nii.gz"}, REFINED, seconds={"fit": 1.5}))
    first = read_report(tmp_path)
    report.add(CaseRecord("b", reason="b.nii.gz cannot be read"))
    assert read_report(tmp_path)["summary"]["cases"] == 2
    report.finish()
    second = json.loads((tmp_path / "report.json").read_text())
    assert [c["case"] for c in first["cases"]] == ["a"] and [c["case"] for c in second["cases"]] == ["a", "b"]
    assert second["summary"] == {
        "cases": 2, "refined": 1, "unchanged": 0, "segmented": 0, "kept": 0, "failed": 1,
        "structures": {"refined": 0, "unchanged": 0, "kept": 0},
        "unusual_sizes": [],
    }  # fmt: skip
    assert second["cases"][1]["status"] == FAILED and second["cases"][0]["seconds"] == {"fit": 1.5}
    assert second["settings"] == {"organ": "liver", "image_dir": None, "folder": str(tmp_path)}
    assert {"command", "started", "device", "versions", "platform", "bundle", "seconds"} <= set(second)
    assert 10 < second["peak_memory_mb"] <= peak_memory_mb() + 1 < 1e6
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_second_run_starts_anew(tmp_path):
    report = RunReport(tmp_path, "refine")
    for name in ("a", "b"):
        report.start("cpu")
        report.add(CaseRecord(name))
        report.finish()
    assert [c["case"] for c in json.loads(report.path.read_text())["cases"]] == ["b"]


def finished(folder, job="refine", outputs=("x",), **settings):
    """The report of a run that is over."""
    report = RunReport(folder, job, {"organ": "liver", "dataset_dir": "masks", **settings})
    report.start("cpu")
    report.add(CaseRecord("a", outputs={name: name for name in outputs}))
    report.finish()
    return report


@pytest.mark.parametrize("other", [{"organ": "spleen"}, {"dataset_dir": "others"}, {"job": "inference"}])
def test_a_report_of_another_job_is_told_from_one_of_the_same(tmp_path, other):
    mine = finished(tmp_path)
    assert mine.other_run() == ""
    finished(tmp_path, preset="linear", dataset_dir=f"{Path.cwd()}/masks/")
    assert mine.other_run() == ""
    finished(tmp_path, **other)
    assert other.get("organ", "liver") in mine.other_run()
    finished(tmp_path, outputs=(), **other)  # it has written nothing
    assert mine.other_run() == ""
    (tmp_path / "report.json").write_text("[]")
    assert mine.other_run() == ""


def test_a_report_cut_short_in_a_line_tells_the_cases_before(tmp_path):
    report = RunReport(tmp_path, "refine")
    report.start("cpu")
    for name in ("a", "b"):
        report.add(CaseRecord(name))
    with open(report.lines, "a") as file:
        file.write('{"case": "c", "sta')
    assert [case["case"] for case in read_report(tmp_path)["cases"]] == ["a", "b"]


def test_the_whole_report_is_seldom_written(tmp_path, monkeypatch):
    """A line a case; the whole only where five seconds have passed since the last time."""
    written = []
    monkeypatch.setattr("scripts.report.run_report.write_json", lambda path, value: written.append(len(value["cases"])))
    report = RunReport(tmp_path, "refine")
    report.start("cpu")
    for number in range(300):
        report.add(CaseRecord(f"case {number}"))
    assert written == [0]
    report.rewrite_at = 0.0
    report.add(CaseRecord("late"))
    report.finish()
    assert written == [0, 301, 301]


def test_names_that_are_no_utf8_are_written_as_bytes():
    assert plain({"case": "caf\udce9", "other": "caf\udcc3\udca9"}) == {"case": "caf\\xe9", "other": "café"}


def test_halves_of_characters_are_written_as_such():
    assert plain({"name": "x\ud800"}) == {"name": "x\\ud800"}


def test_texts_of_a_report_are_names_of_files_again_in_every_locale(tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text(json.dumps({"cases": [], "settings": {"dataset_dir": "Größe"}}), "utf-8")
    assert read_report(tmp_path)["settings"] == {"dataset_dir": "Größe"}
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode("ascii", "surrogateescape"))
    here = read_report(tmp_path)["settings"]["dataset_dir"]
    assert here == "Gr\udcc3\udcb6\udcc3\udc9fe" and plain(here) == "Größe"
