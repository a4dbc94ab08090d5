"""The order in which cases should be looked at."""

from scripts.report.worst import worst_first


def case(status="refined", *structures) -> dict:
    return {"status": status, "structures": list(structures)}


def shape(dsc=None, failure="", **quality) -> dict:
    predicted = {} if dsc is None else {"predicted_dsc": {"initial": [1, 0, 2], "refined": [dsc, 0, 100]}}
    return {"failure": failure, "quality": {**quality, **predicted}}


def test_failed_doubtful_and_kept_ones_come_before_the_lowest_prediction():
    cases = [
        case("refined", shape(95), shape(70)),
        case("unchanged", shape(60)),
        case("kept", shape(failure="too small")),
        case("refined", shape(90), shape(99, doubtful=True)),
        case("failed"),
        case("refined", shape(80, outside_prior=True)),
        case("refined", shape(), shape(50, failure="too small")),
    ]
    assert worst_first(cases) == [4, 5, 3, 6, 2, 1, 0]


def test_without_predictions_the_report_s_order_stays():
    assert worst_first([case("refined", shape()), case("refined"), case("unchanged", shape())]) == [0, 1, 2]
    assert worst_first([]) == []
