"""The predictor of a mask's quality: its scales, its file, and what it does with what is not known."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scripts.prior.tensor_file import BrokenFile
from scripts.quality.features import FEATURES_OF, LENGTHS, OF_IMAGE, VOLUMES, features
from scripts.quality.predictor import QualityNet, QualityPredictor, targets_of
from scripts.quality.reader_rule import ReaderRule

FEATURES = FEATURES_OF["fit"]
WIDTHS = {"dsc": 2.0, "hd95": 3.0}


def made(seed: int = 0, told_by: str = "fit") -> QualityPredictor:
    torch.manual_seed(seed)
    model: QualityNet | ReaderRule = ReaderRule({"": np.full((2, 2), 0.1 * seed), "ball": np.zeros((2, 2))}, np.ones(2))
    if told_by == "fit":
        model = QualityNet(3, 8)
        model.normalise(torch.randn(200, len(FEATURES)))
    return QualityPredictor(model, WIDTHS, {"dsc": 1.0, "hd95": 1.5}, {"patients": 7, "organs": ["ball"]})


def figures(**own) -> dict:
    known = dict.fromkeys(FEATURES, 0.1) | {"dice_with_fit": 0.9, "pieces": 1.0, "scale": 1.0}
    return known | own


def test_features_have_an_order_and_what_is_unknown_is_nan():
    values = features({"dice_with_fit": 0.8, "mask_to_linear_p50": None})
    assert values.shape == (len(FEATURES),) and values.dtype == np.float32
    assert values[FEATURES.index("dice_with_fit")] == np.float32(0.8)
    assert np.isnan(np.delete(values, FEATURES.index("dice_with_fit"))).all()
    assert len(set(FEATURES)) == len(FEATURES)


@pytest.mark.parametrize("name", OF_IMAGE)
def test_so_have_those_of_an_image(name):
    low, high = (features({name: value}, "image") for value in (0.4, 0.9))
    place = OF_IMAGE.index(name)
    assert low.shape == (len(OF_IMAGE),) and high[place] > low[place]
    assert np.isnan(np.delete(low, place)).all()
    assert np.isfinite([features({name: value}, "image")[place] for value in (0.0, 1.0)]).all()


def test_a_predictor_can_tell_of_what_it_has_figures_of():
    of_fit, of_image = made(), made(told_by="image")
    assert of_fit.can_tell(figures()) and not of_image.can_tell(figures())
    assert of_image.can_tell(figures(head_dice=0.8)) and not of_image.can_tell(figures(head_dice=None))


@pytest.mark.parametrize("name", [*LENGTHS, *VOLUMES])
def test_larger_figures_give_larger_features(name):
    low, high = (features({name: value})[FEATURES.index(name)] for value in (0.01, 0.5))
    assert high > low


def test_lengths_keep_their_sign():
    inside, outside = (features({"mask_to_fit_p50": v})[FEATURES.index("mask_to_fit_p50")] for v in (-0.1, 0.1))
    assert inside == -outside < 0


def test_a_prediction_lies_in_its_interval_and_in_its_range():
    found = made()(figures(), 20.0, WIDTHS)
    for guess, low, high in (found.dsc, found.hd95_mm):
        assert low < guess < high
    assert found.dsc[1] >= 0 and found.dsc[2] <= 100 and found.hd95_mm[1] >= 0


def test_hd95_grows_with_the_shape_and_dsc_does_not():
    small, large = (made()(figures(), radius_mm, WIDTHS) for radius_mm in (10.0, 40.0))
    assert large.hd95_mm == pytest.approx(tuple(4 * v for v in small.hd95_mm), abs=0.05)
    assert large.dsc == small.dsc


def test_wider_widths_give_wider_intervals():
    usual, wide = made()(figures(), 20.0, WIDTHS), made()(figures(), 20.0, {"dsc": 4.0, "hd95": 6.0})
    assert wide.dsc[0] == usual.dsc[0]
    assert wide.dsc[1] < usual.dsc[1] < usual.dsc[2] < wide.dsc[2]
    assert wide.hd95_mm[2] > usual.hd95_mm[2]


def test_known_organs_have_widths_of_their_own():
    own = made()
    assert own.widths_for("ball") == own.own_widths != own.widths
    assert own.widths_for("cube") == own.widths


def test_targets_are_what_a_prediction_turns_back():
    mean = np.array(targets_of(87.0, 5.0, 20.0))
    found = made().read(mean, np.array([0.1, 0.1]), 20.0, WIDTHS)
    assert found.dsc[0] == 87.0 and found.hd95_mm[0] == 5.0
    assert np.isfinite(targets_of(0.0, 0.0, 20.0)).all() and np.isfinite(targets_of(100.0, 300.0, 20.0)).all()


def test_save_and_load_give_the_same_predictor(tmp_path):
    own = made()
    own.save(tmp_path / "quality.safetensors")
    again = QualityPredictor.load(tmp_path / "quality.safetensors")
    assert (
        again(figures(), 12.0, WIDTHS) == own(figures(), 12.0, WIDTHS)
        and again.card == own.card
        and again.widths_for("ball") == own.own_widths
    )
    assert made(1)(figures(), 12.0, WIDTHS) != own(figures(), 12.0, WIDTHS)


@pytest.mark.parametrize("told_by", FEATURES_OF)
def test_a_file_knows_what_it_is_told(tmp_path, told_by):
    own = made(told_by=told_by)
    own.save(tmp_path / "quality.safetensors")
    again = QualityPredictor.load(tmp_path / "quality.safetensors")
    told = figures(head_dice=0.8, head_hd95=0.2)
    assert again.told_by == told_by
    assert all(again(told, 12.0, WIDTHS, organ) == own(told, 12.0, WIDTHS, organ) for organ in ("ball", "cube"))


def test_a_file_of_other_features_is_refused(tmp_path):
    file = tmp_path / "quality.safetensors"
    made().save(file)
    header = json.dumps({"features": ["dice"], "members": 3, "width": 8, "widths": WIDTHS, "own_widths": WIDTHS})
    save_file(load_file(file), file, metadata={"quality": header})
    with pytest.raises(BrokenFile, match="its features are not those of this version"):
        QualityPredictor.load(file)


def test_a_header_that_asks_for_a_larger_net_is_refused(tmp_path):
    file = tmp_path / "quality.safetensors"
    made().save(file)
    header = json.dumps(
        {"features": list(FEATURES), "members": 3, "width": 1000, "widths": WIDTHS, "own_widths": WIDTHS}
    )
    save_file(load_file(file), file, metadata={"quality": header})
    with pytest.raises(BrokenFile, match="has the shape"):
        QualityPredictor.load(file)


def test_a_rule_of_other_tensors_is_refused(tmp_path):
    file = tmp_path / "quality.safetensors"
    tensors = {"shift": torch.zeros(2, 2, 2), "spread": torch.ones(2)}
    for organs, why in (
        ([""], "has the shape"),
        (["a", "b"], "whose shifts"),
        (["", []], "whose shifts"),
        (None, "whose shifts"),
    ):
        header = {"features": list(OF_IMAGE), "widths": WIDTHS, "own_widths": WIDTHS, "shift_of": organs}
        save_file(tensors, file, metadata={"quality": json.dumps(header)})
        with pytest.raises(BrokenFile, match=why):
            QualityPredictor.load(file)
