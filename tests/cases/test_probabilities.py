"""Class probabilities of a file: what is refused, with reason and remedy, and which channel becomes which."""

import re

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cases import errors, probabilities, read
from scripts.cases.given import GivenLabels
from scripts.cases.probabilities import CheckProbabilitiesd
from tests.helpers.volumes import AFFINES, OBLIQUE, blocks, save


def soft(affine=OBLIQUE):
    """The softmax (3, 12, 10, 8) of a network that is fairly sure of `blocks`."""
    logits = np.random.default_rng(0).normal(size=(3, 12, 10, 8))
    logits += 4.0 * np.stack([blocks() == value for value in range(3)])
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)


def check(tmp_path, prob, labels=(1, 2), mask=None, affine=OBLIQUE, given=None):
    """The probabilities (C, X, Y, Z) as they leave the check, from a file and a mask."""
    file = save(tmp_path / "prob.nii.gz", np.moveaxis(prob, 0, -1).squeeze(), affine)
    pred = read.read_label_map(save(tmp_path / "mask.nii.gz", blocks() if mask is None else mask, OBLIQUE))
    data = read.ReadVolumed("prob")({"pred": pred, "prob": str(file), "pred_given": given})
    return CheckProbabilitiesd("pred", labels)(data)["prob"]


def reason(tmp_path, prob, **options):
    with pytest.raises(errors.UnrefinableCase) as error:
        check(tmp_path, prob, **options)
    text = str(error.value)
    assert "prob.nii.gz" in text and text.endswith((", or leave --prob_dir out", ", or leave it out"))
    return text


def test_probabilities_of_the_mask_pass_as_they_are(tmp_path):
    np.testing.assert_array_equal(check(tmp_path, soft()), soft())
    assert "prob" not in CheckProbabilitiesd("pred", [1, 2])({"pred": torch.zeros(1, 2, 2, 2)})


def test_outside_of_what_the_network_has_seen_all_may_be_zero(tmp_path):
    prob = soft()
    prob[:, 9:] = 0
    np.testing.assert_array_equal(check(tmp_path, prob), prob)


@pytest.mark.parametrize("name", AFFINES)
def test_another_grid_is_refused(tmp_path, name):
    if name != "oblique":
        assert "is not on the grid of" in reason(tmp_path, soft(), affine=AFFINES[name])
    assert "is not on the grid of" in reason(tmp_path, soft()[:, 1:])


def test_one_channel_is_the_foreground_of_one_label(tmp_path):
    mask = (blocks() > 0).astype(np.uint8)
    prob = 1 - soft()[:1]
    found = check(tmp_path, prob, labels=[1], mask=mask)
    np.testing.assert_allclose(found, np.concatenate([1 - prob, prob]), atol=1e-6)
    assert "says otherwise than the mask" in reason(tmp_path, 1 - prob, labels=[1], mask=mask)


NO_PROBABILITIES = {
    "logits": (lambda p: np.log(p), "from -.* to .*: these are logits; apply softmax"),
    "large logits": (lambda p: 300 * p, "to 29.*: these are logits; apply softmax"),
    "per cent": (lambda p: 100 * p, "divide them by 100 since they are per cent"),
    "whole per cent": (lambda p: np.rint(100 * p), "divide them by 100 since they are per cent"),
    "bytes": (lambda p: np.rint(255 * p), "divide them by 255"),
    "not a number": (lambda p: np.where(p == p.max(), np.nan, p), "NaN or infinity: export .* again"),
    "one hot": (
        lambda p: (p == p.max(0)).astype(p.dtype),
        "it is a mask, no probabilities: give the network's softmax",
    ),
    "a mask": (lambda p: (blocks() > 0)[None].astype(p.dtype), "it is a mask, no probabilities"),
    "a label map": (lambda p: blocks()[None].astype(p.dtype), "it is a mask, no probabilities"),
    "sigmoids": (lambda p: np.sqrt(p), "do not sum to one, but to 1.*: apply softmax"),
    "no background": (lambda p: p[1:], "do not sum to one, but to 0.*add the background"),
    "one of two": (lambda p: p[1:2], "has 1 channels; background and the labels .1, 2. are needed, .*: export all"),
    "too many": (lambda p: np.concatenate([p[:1] / 2, p[:1] / 2, p[1:]]), "has 4 channels; background and"),
    "labels exchanged": (lambda p: p[[0, 2, 1]], "says otherwise than the mask.*in this order"),
    "background last": (lambda p: p[[1, 2, 0]], "says otherwise than the mask.*put background first"),
    "another case's": (lambda p: p[:, ::-1, ::-1], "says otherwise than the mask.*of the same case"),
}


@pytest.mark.parametrize("kind", NO_PROBABILITIES)
def test_what_are_no_probabilities_of_the_mask_is_refused_with_the_remedy(tmp_path, kind):
    make, words = NO_PROBABILITIES[kind]
    text = reason(tmp_path, make(soft()).astype(np.float32))
    assert re.search(words, text), text


def test_large_volumes_are_told_from_a_part_of_their_voxels(tmp_path, monkeypatch):
    monkeypatch.setattr(probabilities, "LOOKED_AT", 200)
    np.testing.assert_array_equal(check(tmp_path, soft()), soft())
    for kind in ("one hot", "sigmoids", "labels exchanged", "per cent"):
        make, words = NO_PROBABILITIES[kind]
        assert re.search(words, reason(tmp_path, make(soft()).astype(np.float32)))


def test_channels_of_another_model_follow_its_values(tmp_path):
    """A model with a spleen, 1, and our labels 1 and 2 as its 3 and 2."""
    theirs = np.zeros((4, 12, 10, 8), np.float32)
    theirs[0], theirs[1], theirs[3], theirs[2] = soft()[0] / 2, soft()[0] / 2, soft()[1], soft()[2]
    given = GivenLabels(blocks(), OBLIQUE, {3: 1, 2: 2}, named=True)
    np.testing.assert_allclose(check(tmp_path, theirs, given=given), soft(), atol=1e-6)
    parts = GivenLabels(blocks(), OBLIQUE, {1: 1, 2: 2, 3: 2}, named=True)  # two of theirs are one of ours
    split = np.stack([soft()[0], soft()[1], soft()[2] / 4, 3 * soft()[2] / 4])
    np.testing.assert_allclose(check(tmp_path, split, given=parts), soft(), atol=1e-6)
    unnamed = GivenLabels(blocks(), OBLIQUE, {1: 1, 2: 2})
    assert "has 4 channels" in reason(tmp_path, theirs, given=unnamed)


def test_a_probability_without_a_file_is_checked_likewise():
    mask = MetaTensor(torch.from_numpy(blocks()[None].astype(np.int32)))
    prob = MetaTensor(torch.from_numpy(soft()))
    checked = CheckProbabilitiesd("pred", [1, 2])({"pred": mask, "prob": prob})["prob"]
    assert torch.equal(checked, prob) and checked.affine.equal(prob.affine)
