"""The metrics in MONAI's forms: where the spacing comes from, what is averaged, and what an engine gets."""

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, MetaTensor, decollate_batch
from monai.handlers import HausdorffDistance, from_engine

from scripts.metrics.handlers import ChamferDistance, EarthMoversDistance, PointToSurface, SurfaceScore, Topology
from scripts.metrics.surface import EmptyPolicy, SurfaceScoreMetric, compute_surface_score, score_masks
from scripts.metrics.topology import compute_topology
from tests.helpers.balls import AFFINES, ANISOTROPIC, ball, one_hot


def plates(affine: np.ndarray | None, axis: int = 2, shift: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth: plates one voxel thick, `shift` voxels apart along an axis, one-hot with background."""
    truth = np.zeros((16, 16, 16), bool)
    truth[tuple(slice(5, 6) if a == axis else slice(3, 13) for a in range(3))] = True
    return one_hot(np.roll(truth, shift, axis), affine=affine), one_hot(truth, affine=affine)


def run(handler, pairs) -> tuple[float, torch.Tensor]:
    """Run an engine over (prediction, truth) pairs, one a batch; return the handler's number and its details."""
    engine = Engine(lambda _, batch: [{"pred": batch[0], "label": batch[1]}])
    handler.attach(engine, "figure")
    engine.run(pairs)
    return engine.state.metrics["figure"], engine.state.metric_details["figure"]


OUTPUT = from_engine(["pred", "label"])


@pytest.mark.parametrize("axis", range(3))
def test_handlers_give_millimetres_where_monai_gives_voxels(axis):
    pair = plates(ANISOTROPIC, axis)
    spacing = ANISOTROPIC[axis, axis]
    assert run(HausdorffDistance(percentile=95, output_transform=OUTPUT), [pair])[0] == pytest.approx(4.0)
    for score in ("hd95_mm", "assd_mm"):
        value, details = run(SurfaceScore(score=score, output_transform=OUTPUT), [pair])
        assert value == pytest.approx(4 * spacing, rel=1e-6)
        assert details.shape == (1, 1)


@pytest.mark.parametrize("kind", AFFINES)
@pytest.mark.parametrize("score", ["dsc", "nsd", "hd95_mm", "assd_mm"])
def test_scores_are_those_of_score_masks(kind, score):
    affine = AFFINES[kind]
    pred, truth = ball(13.0, affine, (2, 1, -3)), ball(15.0, affine)
    expected = score_masks(pred, truth, np.linalg.norm(affine[:3, :3], axis=0), 3.0)[score]
    handler = SurfaceScore(score=score, nsd_tolerance_mm=3.0, output_transform=OUTPUT)
    assert run(handler, [(one_hot(pred, affine=affine), one_hot(truth, affine=affine))])[0] == pytest.approx(expected)


def test_batches_of_a_data_loader_keep_each_case_its_own_spacing():
    pairs = [plates(np.diag([1.0, 1.0, z, 1.0])) for z in (1.0, 2.5)]
    loader = DataLoader([{"pred": p, "label": t} for p, t in pairs], batch_size=2)
    batch = next(iter(loader))
    assert isinstance(batch["label"], MetaTensor) and batch["label"].affine.shape == (2, 4, 4)
    assert compute_surface_score(batch["pred"], batch["label"]).flatten().tolist() == pytest.approx([4.0, 10.0])
    items = decollate_batch(batch)
    metric = SurfaceScoreMetric("hd95_mm", reduction="none")
    metric([item["pred"] for item in items], [item["label"] for item in items])
    assert metric.aggregate().flatten().tolist() == pytest.approx([4.0, 10.0])


def test_plain_tensors_need_a_spacing():
    pred, truth = (one_hot_[None] for one_hot_ in plates(None))
    with pytest.raises(ValueError, match="give spacing_mm"):
        compute_surface_score(pred, truth)
    given = compute_surface_score(pred, truth, spacing_mm=(1, 1, np.float32(2.5)))
    assert given.item() == pytest.approx(10.0)
    meta = MetaTensor(pred, affine=torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))
    assert compute_surface_score(meta, truth).item() == pytest.approx(12.0)  # the prediction knows where truth does not


def test_wrong_input_is_refused():
    pred, truth = (one_hot_[None] for one_hot_ in plates(ANISOTROPIC))
    with pytest.raises(ValueError, match="one-hot masks"):
        compute_surface_score(pred[:, :1], truth)
    with pytest.raises(ValueError, match="not binary"):
        compute_surface_score(0.5 * pred, truth)
    with pytest.raises(ValueError, match="score must be one of"):
        SurfaceScore(score="hd")
    with pytest.raises(ValueError, match="figure must be one of"):
        Topology(figure="genus")
    with pytest.raises(ValueError, match="nothing to aggregate"):
        SurfaceScoreMetric().aggregate()


def test_background_and_channels():
    affine = ANISOTROPIC
    masks = ball(8.0, affine, (-12, 0, 0)), ball(9.0, affine, (12, 0, 0))
    both = one_hot(*masks, affine=affine)[None]
    assert compute_surface_score(both, both, "dsc").tolist() == [[100.0, 100.0]]
    assert compute_surface_score(both, both, "dsc", include_background=True).shape == (1, 3)
    assert compute_surface_score(both[:, 1:2], both[:, 2:3], "dsc").tolist() == [[0.0]]  # the only channel counts


def test_missed_organs_do_not_score_perfectly():
    """MONAI's aggregate makes 0 of a missed organ's HD95; here it is the diagonal, and nothing at all is NaN."""
    pred, truth = plates(ANISOTROPIC)
    nothing = one_hot(np.zeros(truth.shape[1:], bool), affine=ANISOTROPIC)
    monai = run(HausdorffDistance(percentile=95, output_transform=OUTPUT), [(nothing, truth)])[0]
    assert monai == 0 or math.isinf(monai) or math.isnan(monai)
    diagonal = 16 * math.dist((0, 0, 0), np.diag(ANISOTROPIC)[:3])
    value, _ = run(SurfaceScore(output_transform=OUTPUT), [(nothing, truth), (truth, truth)])
    assert value == pytest.approx(diagonal / 2, rel=1e-6)
    assert run(SurfaceScore("dsc", output_transform=OUTPUT), [(nothing, truth), (truth, truth)])[0] == 50
    value, details = run(SurfaceScore(output_transform=OUTPUT), [(nothing, nothing), (pred, truth)])
    assert value == pytest.approx(8.0) and math.isnan(details[0, 0])  # not counted, and not a 0 in the details
    assert math.isnan(run(SurfaceScore(output_transform=OUTPUT), [(nothing, nothing)])[0])
    ignored = SurfaceScore(policy=EmptyPolicy(prediction_empty="ignore"), output_transform=OUTPUT)
    assert run(ignored, [(nothing, truth), (pred, truth)])[0] == pytest.approx(8.0)


def test_counts_of_what_is_not_nan():
    pred, truth = plates(ANISOTROPIC)
    nothing = one_hot(np.zeros(truth.shape[1:], bool), affine=ANISOTROPIC)
    metric = SurfaceScoreMetric("dsc", get_not_nans=True)
    metric([nothing, truth], [nothing, truth])
    value, count = metric.aggregate()
    assert (value.item(), count.item()) == (100.0, 1.0)
    assert metric.aggregate("sum")[0].item() == 100.0


@pytest.mark.parametrize(
    ("figure", "expected"), [("components", 2.0), ("holes", 1.0), ("volume_difference_percent", 100 * (27 - 1) / 1000)]
)
def test_topology_of_the_prediction(figure, expected):
    truth = np.zeros((20, 20, 20), bool)
    truth[4:14, 4:14, 4:14] = True
    pred = truth.copy()
    pred[8, 8, 8] = False
    pred[16:19, 16:19, 16:19] = True
    pair = one_hot(pred, affine=ANISOTROPIC), one_hot(truth, affine=ANISOTROPIC)
    assert run(Topology(figure=figure, output_transform=OUTPUT), [pair])[0] == pytest.approx(expected)


def test_volume_difference_of_empty_masks():
    full, nothing = one_hot(np.ones((4, 4, 4), bool)), one_hot(np.zeros((4, 4, 4), bool))
    figure = {"figure": "volume_difference_percent", "spacing_mm": (1, 1, 2)}
    assert compute_topology(nothing[None], full[None], **figure).item() == 100
    assert math.isnan(compute_topology(full[None], nothing[None], **figure).item())


def test_shape_handlers():
    affine = ANISOTROPIC
    pair = tuple(one_hot(ball(radius, affine), affine=affine) for radius in (13.0, 16.0))
    chamfer = run(ChamferDistance(count=4000, output_transform=OUTPUT), [pair])[0]
    assert chamfer == pytest.approx(2000 * (3 / 32) ** 2, rel=0.15)
    assert run(EarthMoversDistance(output_transform=OUTPUT), [pair])[0] == pytest.approx(3 / 32, rel=0.3)
    assert run(PointToSurface(count=2000, output_transform=OUTPUT), [pair])[0] == pytest.approx(3.0, abs=0.25)
