"""Whether a run says that its masks of a structure are all too large, or too small."""

import numpy as np
import pytest

from scripts.report.lines import last_lines
from scripts.report.run_report import CaseRecord, summary_of
from scripts.report.sizes import unusual_sizes


def case(name="a", structure="heart", deviations=0.0, at_border=0.0, doubtful=False):
    figures = {"volume_deviations": deviations, "at_border": at_border}
    quality = {"agreement": {"initial": figures, "refined": figures}, "doubtful": doubtful}
    return {"case": name, "status": "unchanged", "structures": [{"name": structure, "quality": quality}]}


@pytest.mark.parametrize(
    ("mean", "count", "said"),
    [(1.5, 4, False), (1.5, 5, True), (-1.5, 5, True), (1.1, 5, False), (1.1, 10, True), (0.5, 10000, False)],
)
def test_many_masks_say_what_one_does_not(mean, count, said):
    spread = np.linspace(-1.0, 1.0, count)
    found = unusual_sizes([case(deviations=mean + other) for other in spread])
    expected = {"structure": "heart", "masks": count, "deviations": mean}
    assert found == ([expected] if said else [])


def test_what_is_cut_doubtful_or_unknown_does_not_count():
    usual = [case(deviations=0.0)] * 5
    odd = [case(deviations=-9.0, at_border=0.1), case(deviations=9.0, doubtful=True), case(deviations=None)]
    kept = {"case": "k", "status": "kept", "structures": [{"name": "heart", "quality": {}}]}
    assert unusual_sizes([*usual, *odd * 9, kept]) == []


def test_each_structure_is_counted_by_itself():
    cases = [case(structure="aorta", deviations=3.0)] * 6 + [case(structure="heart")] * 6
    assert [found["structure"] for found in unusual_sizes(cases)] == ["aorta"]


def test_the_end_of_a_run_says_it_and_the_report_keeps_it():
    cases = [case(name=f"c{n}", deviations=-2.0) for n in range(7)]
    summary = summary_of(cases)
    assert summary["unusual_sizes"] == [{"structure": "heart", "masks": 7, "deviations": -2.0}]
    records = [CaseRecord(one["case"], status="unchanged", structures=one["structures"]) for one in cases]
    said = last_lines(records, summary)
    assert said[1].startswith("7 masks of heart are smaller than usual, by 2.0 standard deviations on average")
