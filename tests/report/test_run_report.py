"""The report of a run."""

import json
import math

import numpy as np

from scripts.report.run_report import FAILED, REFINED, CaseRecord, RunReport, peak_memory_mb, plain


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
    first = json.loads((tmp_path / "report.json").read_text())
    report.add(CaseRecord("b", reason="b.nii.gz cannot be read"))
    second = json.loads((tmp_path / "report.json").read_text())
    assert [c["case"] for c in first["cases"]] == ["a"] and [c["case"] for c in second["cases"]] == ["a", "b"]
    assert second["summary"] == {"cases": 2, "refined": 1, "segmented": 0, "kept": 0, "failed": 1}
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
    assert [c["case"] for c in json.loads(report.path.read_text())["cases"]] == ["b"]
