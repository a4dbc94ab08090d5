"""The second reader: what a U-Net says beside the voxel head, where it has not made the mask."""

import json
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from scripts.geometry.boxed import BoxedMask
from scripts.geometry.resample import WorldGrid
from scripts.geometry.surface import mask_signed_distance
from scripts.organ.pack import OrganPack
from scripts.quality.features import OF_IMAGE, features
from scripts.quality.verdict import STAGES
from scripts.refine.chain import Refiner
from scripts.refine.mending import Mended, mend
from scripts.refine.odds import proposed, second_weight
from scripts.refine.second_reader import SecondReader
from scripts.refine.stages import Aligned, Image, Sampled, Seen
from scripts.run.mask_request import MaskRequest
from scripts.run.request import OpenRequest
from scripts.unet.segmenter import Segmenter
from tests.helpers.bright_head import bright_image, pack_with_bright_head, with_following_head
from tests.helpers.mean_shape import damaged, dice, mean_shape

ONE_MM = np.ones(3)


class FakeSegmenter:
    """Finds a label map (X, Y, Z) on the image's grid, with a certainty; counts how often it is asked."""

    def __init__(self, label_map, certainty=0.99):
        self.label_map, self.certainty = label_map, certainty
        self.pack = OrganPack.load("hippocampus")
        self.images = []
        self.device = torch.device("cpu")

    def cut(self, values, affine, seen_mm):
        return values, affine

    read = Segmenter.read

    def __call__(self, image):
        self.images.append(image)
        one_hot = np.stack([self.label_map == value for value in (0, 1, 2)]).astype(np.float32)
        prob = one_hot * self.certainty + (1 - one_hot) * (1 - self.certainty) / 2
        return MetaTensor(torch.from_numpy(prob), affine=image.affine)


def aligned(mask, affine):
    known = {name: None for name in ("structure", "prior", "surface", "transform")}
    return Aligned(seconds={}, mask=BoxedMask.of(mask), affine=affine, **known)


def reader(segmenter, values, label_map, affine):
    return SecondReader(segmenter, Image(values, affine), [aligned(label_map > 0, affine)], label_map, affine)


def test_it_is_asked_once_and_only_if_somebody_wants_to_know():
    label_map, affine = mean_shape("oblique")
    fake = FakeSegmenter(label_map)
    second = reader(fake, bright_image(label_map, affine).values, label_map, affine)
    x, y, z = label_map.shape
    assert second.known("hippocampus", WorldGrid(affine, (x, y, z))) is None and not fake.images
    found = []
    asked = [Thread(target=lambda: found.append(second("hippocampus", WorldGrid(affine, (x, y, z))))) for _ in range(4)]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    assert len(fake.images) == 1 and len(found) == 4
    assert ((found[0] > 0.5) == (label_map > 0)).all()
    np.testing.assert_array_equal(second.known("hippocampus", WorldGrid(affine, (x, y, z))), found[0])


def test_outside_of_the_image_it_says_nothing():
    label_map, affine = mean_shape("plain")
    half = label_map.shape[1] // 2
    fake = FakeSegmenter(label_map[:, :half])
    second = reader(fake, bright_image(label_map, affine).values[:, :half], label_map, affine)
    x, y, z = label_map.shape
    said = second("hippocampus", WorldGrid(affine, (x, y, z)))
    assert np.isnan(said[:, half + 1 :]).all() and np.isfinite(said[:, : half - 1]).all()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_of_an_image_in_which_a_network_sees_nothing_it_has_no_say(value):
    label_map, affine = mean_shape("plain")
    values = np.zeros(label_map.shape, np.float32)
    values[0, 0, 0] = value
    fake = FakeSegmenter(label_map)
    x, y, z = label_map.shape
    assert reader(fake, values, label_map, affine)("hippocampus", WorldGrid(affine, (x, y, z))) is None
    assert not fake.images


def ball(radius, centre=15.5):
    return np.linalg.norm(np.indices((32, 32, 32)) - np.reshape([centre, 15.5, 15.5], (3, 1, 1, 1)), axis=0) < radius


def judged(mask, log_odds, probability):
    told = None if probability is None else lambda: probability
    return proposed(mask, mask, log_odds, mask_signed_distance(mask, ONE_MM), ONE_MM, 1.0, second=told)


def test_a_good_mask_is_no_matter_for_it():
    mask = ball(10)

    def never():
        raise AssertionError("it was asked")

    given = np.where(mask, 3.0, -3.0), mask_signed_distance(mask, ONE_MM), ONE_MM, 1.0
    found = proposed(mask, mask, *given, second=never)
    assert (found.mask == mask).all() and found.agreement is None


@pytest.mark.parametrize("sees", [True, False])
def test_what_only_the_head_wants_of_a_good_mask_is_not_done(sees):
    mask = ball(10)
    bump = np.zeros_like(mask)
    bump[24:29, 14:17, 14:17] = True  # less than three hundredths of the mask
    whole = mask | bump
    found = judged(mask, np.where(whole, 3.0, -3.0), np.where((whole if sees else mask) & ~ball(4), 0.9, 0.1))
    assert (found.mask == (whole if sees else mask)).all() and not found.poor and found.agreement > 0.9


@pytest.mark.parametrize(("certainty", "taken"), [(0.99, True), (0.6, False)])
def test_near_a_deep_fault_both_decide_together(certainty, taken):
    """The head is sure that a bite is missing, and takes a layer around all for none of the organ."""
    whole, larger = ball(10), ball(11)
    mask = whole.copy()
    mask[21:, 10:21] = False
    log_odds = np.where(whole, 3.0, np.where(larger, -1.5, -3.0))
    found = judged(mask, log_odds, np.where(larger, certainty, 1 - certainty))
    assert not found.poor and found.agreement > 0.8
    assert found.mask[whole].all()
    layer = larger & ~whole
    assert found.mask[24:, 12:19][layer[24:, 12:19]].any() == taken
    assert not found.mask[:16][layer[:16]].any()  # far from it both must want it


def test_a_poor_mask_becomes_what_both_find_likelier():
    whole, larger = ball(10), ball(11)
    mask = ball(6)
    log_odds = np.where(whole, 3.0, np.where(larger, -0.5, -3.0))
    found = judged(mask, log_odds, np.where(larger, 0.95, 0.05))
    assert found.poor and (found.mask[13:18, 13:18] == larger[13:18, 13:18]).all()
    alone = judged(mask, log_odds, None)
    assert alone.poor and (alone.mask == whole).all()


def test_it_counts_by_how_far_the_two_agree():
    assert [second_weight(dice) for dice in (0.2, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.25, 1.0]


@pytest.mark.parametrize("shown", [30, 20, 14])
def test_where_the_image_ends_it_neither_agrees_nor_vetoes(shown):
    """Where it says nothing, the head decides as if alone."""
    whole = ball(10)
    mask = whole.copy()
    mask[:, 21:] = False
    mask[:, :9] = False
    log_odds = np.where(whole, 3.0, -3.0)
    probability = np.where(whole, 0.95, 0.05)
    probability[:, shown:] = np.nan
    found = judged(mask, log_odds, probability)
    assert found.agreement > 0.99 and (found.mask == whole).all()


def test_a_mask_of_its_own_it_does_not_judge():
    mask = ball(10)
    bitten = mask.copy()
    bitten[24:, 14:18, 14:18] = False
    log_odds = np.where(mask, 3.0, -3.0)
    assert judged(bitten, log_odds, np.where(bitten, 0.9, 0.1)).agreement is None
    assert judged(bitten, log_odds, np.where(ball(12), 0.9, 0.1)).agreement > 0.5


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return pack_with_bright_head(tmp_path_factory.mktemp("packs") / "bright")


def test_the_chain_asks_it_and_the_report_says_how_far_it_agreed(pack):
    truth, affine = mean_shape("plain")
    mask = damaged(np.where(ndimage.binary_erosion(truth > 0), truth, 0).astype(truth.dtype), affine)
    alone = Refiner(pack)
    assert alone.segmenter is None  # the pack has no U-Net
    refined, (case,) = alone.refine(mask, affine, bright_image(truth, affine))
    assert case.quality["second_reader_dice"] is None
    told = case.quality["agreement"]["initial"]
    assert {name for name in OF_IMAGE if name in told} == {"head_dice", "head_hd95"}

    both = Refiner(pack)
    both.segmenter = FakeSegmenter(truth)
    seen, (case,) = both.refine(mask, affine, bright_image(truth, affine))
    assert case.quality["second_reader_dice"] > 0.9 and case.quality["evidence"] == "image"
    told = case.quality["agreement"]
    assert all(np.isfinite(features(told[stage], "image")).all() for stage in STAGES)
    assert told["initial"]["second_dice"] < told["refined"]["second_dice"]
    json.dumps(case.quality, allow_nan=False)
    assert dice(seen > 0, truth > 0) > dice(refined > 0, truth > 0)
    assert len(both.segmenter.images) == 1
    both.refine(mask, affine)
    assert len(both.segmenter.images) == 1  # without an image nobody is asked


def test_who_has_made_the_masks_is_no_second_reader():
    assert Refiner("hippocampus").segmenter is not None
    assert Refiner("hippocampus", second=False).segmenter is None
    assert OpenRequest("hippocampus").settled.refiner.segmenter is None  # `segment`
    assert OpenRequest("hippocampus", current_label=True).settled.refiner.segmenter is None  # it most often began so
    assert MaskRequest.of("hippocampus").refiner.segmenter is not None  # `refine`
    assert MaskRequest.of("hippocampus", second_reader="false").refiner.segmenter is None
    (_, joined), (_, other) = MaskRequest.of("hippocampus,liver").refiner.refiners
    assert joined.segmenter is not None and other.segmenter is None


@pytest.mark.parametrize("order", ["hippocampus,brain", "brain,hippocampus"])
def test_a_pack_whose_structures_another_one_has_keeps_its_u_net(order):
    refiners = MaskRequest.of(order).require().refiner.refiners
    for _, refiner in refiners:
        assert len(refiner.segmenter.pack.labels) == {"hippocampus": 2, "brain": 14}[refiner.pack.name]
        assert refiner.segmenter.network is not None
    assert Refiner("hippocampus", see=False).segmenter is None
    assert Refiner("liver").segmenter is None


@pytest.mark.parametrize("blind", [False, True])
def test_an_image_that_its_readers_see_differently_is_not_followed(tmp_path, blind):
    """The voxel head finds the organ on one side of the mask, and the U-Net on the other."""
    pack = pack_with_bright_head(tmp_path / "bright")
    if blind:
        with_following_head(pack)
    truth, affine = mean_shape("plain")
    mask = damaged(truth, affine)
    image = bright_image(np.roll(truth, 9, 0), affine)
    alone = Refiner(pack)
    harmed, (case,) = alone.refine(mask, affine, image)
    assert case.quality["evidence"] == "image" and dice(harmed > 0, truth > 0) < dice(mask > 0, truth > 0) - 0.1

    both = Refiner(pack)
    both.segmenter = FakeSegmenter(np.roll(truth, -9, 0))
    seen, (case,) = both.refine(mask, affine, image)
    assert case.quality["evidence"] == ("mask" if blind else "shape") and case.quality["second_reader_dice"] < 0.5
    assert any("the image was not followed" in warning for warning in case.quality["warnings"])
    np.testing.assert_array_equal(seen, alone.refine(mask, affine)[0])


def test_of_an_image_that_it_fails_to_read_it_has_no_say(pack, caplog):
    class Failing(FakeSegmenter):
        def __call__(self, image):
            super().__call__(image)
            raise RuntimeError("no such luck")

    truth, affine = mean_shape("plain")
    mask = damaged(truth, affine)
    both, alone = Refiner(pack), Refiner(pack)
    both.segmenter = Failing(truth)
    refined, (case,) = both.refine(mask, affine, bright_image(truth, affine))
    assert case.quality["evidence"] == "image" and case.quality["second_reader_dice"] is None
    assert len(both.segmenter.images) == 1 and "no such luck" in caplog.text
    np.testing.assert_array_equal(refined, alone.refine(mask, affine, bright_image(truth, affine))[0])


@pytest.mark.parametrize(("dice_of", "followed"), [((0.2, 0.9), True), ((0.2, 0.6), False), ((0.2, None), True)])
def test_one_structure_that_is_hard_to_see_does_not_make_an_image_disputed(monkeypatch, dice_of, followed):
    """The two readings of two structures, without the rest of the chain."""
    label_map, affine = mean_shape("plain")
    names, mask = ["one", "other"], BoxedMask.of(label_map > 0)
    told = dict(zip(names, dice_of, strict=True))
    one = Aligned(
        **{field: None for field in ("structure", "seconds", "prior", "mask", "affine", "surface", "transform")}
    )
    known = {"samples": None, "context": None, "evidence": None, "seen": None, "drawn": None}
    transform = SimpleNamespace(similarity="as it was")
    sampled = [
        one.then(Sampled, structure=SimpleNamespace(name=n), mask=mask, surface="surface", transform=transform, **known)
        for n in names
    ]
    steps = {
        n: SimpleNamespace(settings=SimpleNamespace(method="default"), finetune=None, reconstruction=None)
        for n in names
    }
    for name, own in steps.items():
        part = SimpleNamespace(evidence="image", signed_mm=np.full(1, -1.0), poor=False, agreement=told[name])
        own.finetune = SimpleNamespace(linear=lambda *_: "fit")
        own.reconstruction = SimpleNamespace(measure=lambda _: None, judge=lambda *_, part=part: part)
    made = Mended("mended", Seen(None, label_map, None), None)
    monkeypatch.setattr("scripts.refine.mending._mended", lambda parts, *_: dict.fromkeys(parts, made))
    by_name = {own.name: own for own in sampled}
    found = mend(sampled, label_map, affine, Image(label_map, affine), steps, lambda name, _: by_name[name])
    assert {mended.similarity for mended in found.values()} == {"mended" if followed else "as it was"}
    assert [mended.seen.disputed for mended in found.values()] == ([None, None] if followed else list(dice_of))
