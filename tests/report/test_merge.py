"""Runs in parts: each has a report of its own, and the merged one is that of a single run."""

import json
import logging

import pytest

from scripts.cases.lock import LOCK, FolderInUse, FolderLock
from scripts.cases.part import named, read_part, share_of
from scripts.report.merge import merge
from scripts.report.run_report import CaseRecord, RunReport
from tests.helpers.fake_run import run_refine
from tests.helpers.volumes import blocks, save
from tests.kills import results

OF_A_RUN = {"command", "started", "seconds", "peak_memory_mb"}
OF_A_CASE = {"seconds", "peak_memory_mb", "outputs"}


@pytest.fixture
def masks(tmp_path):
    """Four good cases and a corrupt one."""
    for name in "abde":
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    save(tmp_path / "masks" / "c.nii.gz", blocks()).write_bytes(b"broken")
    return tmp_path / "masks"


def report_of(folder):
    """A run's report without times and places."""
    report = json.loads((folder / "report.json").read_text())
    cases = [{key: value for key, value in case.items() if key not in OF_A_CASE} for case in report["cases"]]
    return {key: value for key, value in report.items() if key not in OF_A_RUN} | {"cases": cases}


def test_parts_share_the_cases_and_none_has_another_s():
    assert [share_of("abcde", part) for part in ("", "1/2", "2/2", "6/6")] == [
        list("abcde"),
        list("ace"),
        list("bd"),
        [],
    ]
    assert (named("report.json", ""), named("report.json", "2/8")) == ("report.json", "report.part-2-of-8.json")
    for wrong in ("0/2", "3/2", "2", "1/2/3", "one/two", "-1/2"):
        with pytest.raises(ValueError, match="part must be such as 2/8, the second of eight, not"):
            read_part(wrong)


def test_merged_parts_are_what_a_single_run_gives(masks, tmp_path):
    run_refine(masks, tmp_path / "whole", html=True)
    for part in ("2/3", "1/3", "3/3"):
        run_refine(masks, tmp_path / "parts", html=True, part=part)
    assert not (tmp_path / "parts" / "report.html").exists()
    assert merge(str(tmp_path / "parts")) == str(tmp_path / "parts" / "report.json")
    assert report_of(tmp_path / "parts") == report_of(tmp_path / "whole")
    pages = [results(tmp_path / folder).pop("report.html") for folder in ("parts", "whole")]
    assert all(b'"name":"%s"' % name in page for page in pages for name in (b"a", b"b", b"c", b"d", b"e"))
    files = [{n: c for n, c in results(tmp_path / f).items() if n != "report.html"} for f in ("parts", "whole")]
    assert files[0] == files[1]  # so the reports of the parts are gone, too


def test_a_part_that_is_run_again_does_what_is_missing_and_merges_into_what_is_there(masks, tmp_path, caplog):
    run_refine(masks, tmp_path / "out", part="1/2")
    with caplog.at_level(logging.INFO):
        merge(str(tmp_path / "out"), html=False)
    assert "no report of the parts 2/2: run them, then merge again" in caplog.text
    assert [case["case"] for case in report_of(tmp_path / "out")["cases"]] == ["a", "c", "e"]
    caplog.clear()
    save(masks / "c.nii.gz", blocks())
    with caplog.at_level(logging.INFO):
        for part in ("1/2", "2/2"):
            run_refine(masks, tmp_path / "out", part=part)
            merge(str(tmp_path / "out"), html=False)
    assert "2 cases done before, skipped" in caplog.text and "no report of" not in caplog.text
    run_refine(masks, tmp_path / "whole")
    assert report_of(tmp_path / "out") == report_of(tmp_path / "whole")


def test_a_part_cut_short_is_named_and_its_cases_are_kept(masks, tmp_path, caplog):
    run_refine(masks, tmp_path / "out", part="1/2")
    cut = RunReport(tmp_path / "out", "refine", part="2/2")
    cut.start("cpu", report_hash(tmp_path / "out", "1/2"))
    cut.add(CaseRecord("b"))
    merge(str(tmp_path / "out"), html=False)
    assert "cut short: the parts 2/2: run them again, then merge again" in caplog.text
    assert [case["case"] for case in report_of(tmp_path / "out")["cases"]] == ["a", "b", "c", "e"]


def report_hash(folder, part):
    return json.loads((folder / named("report.json", part)).read_text())["settings_hash"]


def test_parts_run_at_once_but_none_twice_and_none_while_they_are_merged(masks, tmp_path):
    lock = FolderLock(tmp_path / "out", named(LOCK, "1/2"))
    with pytest.raises(SystemExit, match="in use"):
        run_refine(masks, tmp_path / "out", part="1/2")
    writing = tmp_path / "out" / "a" / f".{2**22 + 1}-a_refined.nii.gz"  # by a process of another machine
    writing.parent.mkdir()
    writing.touch()
    run_refine(masks, tmp_path / "out", part="2/2")
    assert writing.exists()
    lock.release()
    lock = FolderLock(tmp_path / "out", named(LOCK, "2/2"))
    with pytest.raises(FolderInUse):
        merge(str(tmp_path / "out"))
    lock.release()


def test_parts_of_several_numbers_are_refused(masks, tmp_path):
    for part in ("1/2", "2/3"):
        run_refine(masks, tmp_path / "out", part=part)
    before = results(tmp_path / "out")
    with pytest.raises(
        ValueError, match="the parts 1/2 and 2/3 are shares of another number .* report.part-2-of-3.json"
    ):
        merge(str(tmp_path / "out"))
    assert results(tmp_path / "out") == before


def test_the_page_draws_as_many_cases_as_are_asked_for(masks, tmp_path):
    run_refine(masks, tmp_path / "out", part="1/1")
    with pytest.raises(ValueError, match="html_cases must be a whole number"):
        merge(str(tmp_path / "out"), html_cases=-1)
    merge(str(tmp_path / "out"), html_cases=1)
    assert (
        "Not drawn: html_cases asks for 1 case, and worse ones come first."
        in (tmp_path / "out/report.html").read_text()
    )


def test_parts_that_were_not_run_alike_and_folders_without_parts_are_refused(masks, tmp_path):
    run_refine(masks, tmp_path / "out", part="1/2")
    run_refine(masks, tmp_path / "out", part="2/2", preset="linear")
    before = results(tmp_path / "out")
    with pytest.raises(ValueError, match="the parts 1/2 and 2/2 were run with other options"):
        merge(str(tmp_path / "out"))
    assert results(tmp_path / "out") == before
    with pytest.raises(ValueError, match="holds no report of a part"):
        merge(str(masks))
