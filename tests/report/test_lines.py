"""What a run says of its cases on the console."""

import pytest

from scripts.report.lines import case_line, last_lines, needs_a_look, summary_line
from scripts.report.run_report import CaseRecord, summary_of


def part(name, status="refined", failure="", **quality):
    return {"name": name, "status": status, "failure": failure, "quality": quality}


RECORDS = [
    CaseRecord(
        "a",
        status="refined",
        structures=[part("heart", removed_ml=0.3, added_ml=12.34), part("aorta", "unchanged")],
    ),
    CaseRecord(
        "b",
        status="refined",
        warnings=["heart: the mask has no heart", "aorta: odd", "no image"],
        left_alone=["liver"] * 112,
        structures=[part("heart", "kept", "the mask has no heart"), part("aorta", added_ml=1)],
    ),
    CaseRecord("c", status="failed", reason="c.nii.gz cannot be read"),
    CaseRecord("caf\udce9", status="segmented"),
]


def test_what_was_changed_is_never_said_to_be_nothing():
    record = CaseRecord("a", status="refined", structures=[part("heart", removed_ml=0.004, added_ml=0.0)])
    assert case_line(record) == "a refined: heart under 0.01 ml removed"


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (0, "a refined: heart 0.30 ml removed, 12.3 ml added; aorta unchanged"),
        (
            1,
            "b refined: heart kept: the mask has no heart; aorta 1.00 ml added; aorta: odd; no image; "
            "112 other structures left alone",
        ),
        (2, "c failed: c.nii.gz cannot be read"),
        (3, "caf\\xe9 segmented"),
    ],
)
def test_a_line_says_what_happened_to_a_case(number, line):
    assert case_line(RECORDS[number]) == line


def test_the_end_counts_structures_too_and_names_what_needs_a_look():
    assert [needs_a_look(record) for record in RECORDS] == [False, True, True, False]
    counts, named = last_lines(RECORDS, summary_of([vars(record) for record in RECORDS]))
    assert counts == "4 cases: 2 refined, 1 segmented, 1 failed; 4 structures: 2 refined, 1 unchanged, 1 kept"
    assert named == "look at: b (heart kept), c (failed)"
    assert last_lines(RECORDS[:1], {"cases": 1, "refined": 1}) == ["1 case: 1 refined"]


def test_of_many_that_need_a_look_some_are_named():
    records = [CaseRecord(f"case_{number}", reason="broken") for number in range(50)]
    assert last_lines(records, summary_of([vars(record) for record in records]))[1].endswith(" and 30 more")


def test_summaries_of_older_reports_are_read():
    assert summary_line({"cases": 2, "refined": 1, "failed": 1}) == "2 cases: 1 refined, 1 failed"
