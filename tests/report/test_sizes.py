"""Whether a run says that its masks of a structure are all too large, or too small."""

import numpy as np
import pytest

from scripts.report.lines import last_lines
from scripts.report.run_report import CaseRecord, summary_of
from scripts.report.sizes import size_line, unusual_sizes


def case(name="a", structure="heart", deviations=0.0, at_border=0.0, doubtful=False, to_usual_mm=None, inward_mm=0.0):
    figures = {"volume_deviations": deviations, "at_border": at_border}
    quality = {"agreement": {"initial": figures, "refined": figures}, "doubtful": doubtful}
    quality |= {"to_usual_mm": to_usual_mm, "inward_mm": inward_mm}
    return {"case": name, "status": "unchanged", "structures": [{"name": structure, "quality": quality}]}


@pytest.mark.parametrize(
    ("middle", "count", "said"),
    [(2.1, 4, False), (2.1, 5, True), (-2.1, 5, True), (1.7, 5, False), (1.7, 10, True), (0.8, 10001, False)],
)
def test_many_masks_say_what_one_does_not(middle, count, said):
    found = unusual_sizes([case(deviations=middle + other) for other in np.linspace(-1.0, 1.0, count)])
    expected = {"structure": "heart", "masks": count, "deviations": middle, "inward_mm": 0.0}
    assert found == ([expected] if said else [])


def test_one_mask_may_be_anything():
    assert unusual_sizes([case(deviations=0.0)] * 9 + [case(deviations=-30.0)]) == []


@pytest.mark.parametrize("odd", [{"at_border": 0.011}, {"doubtful": True}, {"inward_mm": 2.0}])
def test_what_is_cut_or_moved_or_no_such_organ_does_not_count(odd):
    assert unusual_sizes([case(deviations=-9.0, **odd)] * 9) == []
    assert unusual_sizes([case(deviations=-9.0, at_border=0.01)] * 9)


def test_what_is_cut_and_larger_all_the_same_counts():
    assert unusual_sizes([case(deviations=9.0, at_border=0.5)] * 9)
    assert unusual_sizes([case(deviations=9.0, at_border=0.5)] * 4 + [case(deviations=0.0)] * 5) == []


def test_what_says_no_volume_does_not_count():
    kept = {"case": "k", "status": "kept", "structures": [{"name": "heart", "quality": {}}]}
    assert unusual_sizes([case(deviations=None), kept, {"case": "f", "status": "failed"}] * 9) == []


def test_each_structure_is_counted_by_itself():
    cases = [case(structure="aorta", deviations=3.0)] * 6 + [case(structure="heart")] * 6
    assert [found["structure"] for found in unusual_sizes(cases)] == ["aorta"]


def test_the_end_of_a_run_says_it_and_the_report_keeps_it():
    cases = [case(name=f"c{n}", deviations=-2.0) for n in range(7)]
    summary = summary_of(cases)
    assert summary["unusual_sizes"] == [{"structure": "heart", "masks": 7, "deviations": -2.0, "inward_mm": 0.0}]
    records = [CaseRecord(one["case"], status="unchanged", structures=one["structures"]) for one in cases]
    said = last_lines(records, summary)
    assert said[1].startswith("heart: the masks are smaller than usual, by 2.0 standard deviations (median of 7)")


def test_the_depth_that_would_make_half_of_them_usual_is_said():
    cases = [case(deviations=3.0, to_usual_mm=mm) for mm in (0.0, 1.0, 2.46, 4.0, 9.0)]
    (found,) = unusual_sizes(cases)
    assert found["inward_mm"] == 2.46
    assert size_line(found).endswith("; with --inward_mm heart=2.5 half of them would be usual")
    for none in (0.0, -0.04, 20.0):
        assert "--inward_mm" not in size_line({**found, "inward_mm": none})
