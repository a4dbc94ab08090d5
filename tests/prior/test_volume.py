"""How large an organ usually is, and how unusual a volume."""

import numpy as np
import pytest

from scripts.prior.volume import LEAST_SHAPES, UsualVolume


def test_mean_and_spread_are_of_the_logarithms():
    usual = UsualVolume.of([2.0, 4.0, 8.0] * 10)
    assert usual.mean_ml == pytest.approx(4.0) and usual.n == 30
    assert usual.log_sd == pytest.approx(np.log(2.0) * np.sqrt(20 / 29), abs=1e-4)
    assert UsualVolume.from_card({"volume": usual.as_json()}) == usual


def test_of_few_shapes_or_copies_nothing_is_said():
    assert UsualVolume.of([3.0, 4.0] * (LEAST_SHAPES // 2 - 1)) is None
    assert UsualVolume.of([3.0, 4.0] * (LEAST_SHAPES // 2)) is not None
    assert UsualVolume.of([3.0] * 20) is None
    assert UsualVolume.from_card({"volume": None}) is None and UsualVolume.from_card({}) is None


def test_deviations_are_those_of_a_normal_variable():
    many = UsualVolume(50.0, 0.2, 10**6)
    for deviations in (-3.0, -0.5, 0.0, 1.0, 2.5):
        volume_ml = 50.0 * np.exp(0.2 * deviations)
        assert many.deviations(volume_ml) == pytest.approx(deviations, abs=1e-4)
        assert many.volume_ml_at(deviations) == pytest.approx(volume_ml, rel=1e-4)


def test_the_fewer_shapes_the_less_unusual_is_a_large_volume():
    few, many = UsualVolume(50.0, 0.2, 9), UsualVolume(50.0, 0.2, 900)
    volume_ml = 50.0 * np.exp(0.2 * 4)
    assert 2.0 < few.deviations(volume_ml) < 3.0 < many.deviations(volume_ml)
    assert few.deviations(few.volume_ml_at(2.5)) == pytest.approx(2.5)
    assert few.volume_ml_at(2.5) > many.volume_ml_at(2.5)


def test_the_most_unusual_volume_has_a_figure():
    assert UsualVolume(3.0, 0.03, 1000).deviations(30.0) == 30.0 == -UsualVolume(3.0, 0.03, 1000).deviations(0.3)
