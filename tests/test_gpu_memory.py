"""What is done when a GPU is out of memory; its error is raised by hand, since there is no GPU here."""

import numpy as np
import pytest
import torch

from scripts.evidence import head as head_module
from scripts.evidence.channels import CHANNELS
from scripts.evidence.head import VoxelHead, VoxelNet
from scripts.geometry.affine import Similarity
from scripts.gpu_memory import HALVINGS, in_pieces, with_less
from scripts.organ.pack import OrganPack
from scripts.prior.field import DeformTemplateField
from scripts.prior.prior import ShapePrior
from scripts.refine import finetune as finetune_module
from scripts.refine.finetune import LatentFinetune
from scripts.refine.settings import RefineSettings
from scripts.speed.stacked import stretched
from scripts.unet.network import FlipAveragingInferer

GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def prior():
    return ShapePrior.load(OrganPack.load("hippocampus").structures[0].prior)


@pytest.fixture(scope="module")
def settings():
    return RefineSettings.load("default", OrganPack.load("hippocampus"), samples=100, code_steps=3, weight_steps=3)


def full_at_first(times, act):
    """Do something that runs out of memory so many times before it can be done."""
    left = iter([False] * times)

    def tried(*given, **named):
        if next(left, True):
            return act(*given, **named)
        raise torch.OutOfMemoryError("CUDA out of memory")

    return tried


@pytest.mark.parametrize("times", range(HALVINGS + 1))
def test_points_are_evaluated_in_ever_smaller_pieces(times):
    sizes, points = [], torch.rand(90, 3)
    double = full_at_first(times, lambda piece: sizes.append(len(piece)) or 2 * piece)
    assert torch.equal(in_pieces(double, points, 64), 2 * points)
    assert max(sizes) == 64 >> times and sum(sizes) == 90


def test_pieces_have_a_smallest_size():
    with pytest.raises(torch.OutOfMemoryError):
        in_pieces(full_at_first(HALVINGS + 1, torch.sin), torch.rand(90, 3), 64)


def test_at_last_the_cpu_does_it_and_that_is_said(caplog):
    tried = []

    def act(device, size):
        tried.append((device.type, size))
        if device == GPU:
            raise torch.OutOfMemoryError
        return "done"

    assert with_less(act, GPU, 20, "it is done") == "done"
    assert tried == [*(("cuda", size) for size in (20, 10, 5, 2, 1)), ("cpu", 20)]
    assert "the GPU is out of memory: it is done on the CPU" in caplog.text


def test_structures_are_fitted_alone_where_a_gpu_has_no_room_for_all_and_on_the_cpu_where_it_has_none_for_one(
    prior, settings, monkeypatch
):
    known = [stretched(prior, settings.samples, seed) for seed in (0, 1)]
    alone = [LatentFinetune(settings)(*one) for one in known]
    batches, fit = [], LatentFinetune._fit_batch

    def full(self, structures, seed):
        batches.append((len(structures), self.device.type))
        if self.device.type != "cpu":
            raise torch.OutOfMemoryError
        return fit(self, structures, seed)

    monkeypatch.setattr(LatentFinetune, "_fit_batch", full)
    found = LatentFinetune(settings, "meta").fit_batch(known)
    assert batches == [(2, "meta"), (1, "meta"), (1, "cpu"), (1, "meta"), (1, "cpu")]
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one.residual_mm, other.residual_mm)


def test_a_fit_is_asked_on_the_cpu_where_a_gpu_has_no_room(prior, settings, monkeypatch, caplog):
    fit = LatentFinetune(settings)(*stretched(prior, settings.samples, 0))
    points = np.random.default_rng(0).normal(size=(50, 3)) * prior.scale_mm
    canonical = torch.as_tensor(fit.similarity.apply(points), dtype=torch.float32)
    distance, places = fit.sdf_mm(points), fit.template_canonical(canonical)
    for name, times in (("sdf", 1), ("deform", HALVINGS + 1)):  # of which one is in pieces
        monkeypatch.setattr(DeformTemplateField, name, full_at_first(times, getattr(DeformTemplateField, name)))
    np.testing.assert_array_equal(fit.template_canonical(canonical), places)
    np.testing.assert_array_equal(fit.sdf_mm(points), distance)
    assert "places on a template are found on the CPU" in caplog.text and "a field is evaluated on" in caplog.text


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("times", [1, HALVINGS + 1])
def test_a_voxel_head_judges_fewer_voxels_at_a_time(monkeypatch, context, times):
    torch.manual_seed(0)
    head = VoxelHead({"ball": VoxelNet(8, context)}, 1.5).eval()
    at = np.argwhere(np.ones((6, 6, 6), bool))
    values = np.random.default_rng(0).normal(size=(len(at), len(CHANNELS))).astype(np.float32)
    expected = head.log_odds("ball", values, at)
    monkeypatch.setattr(head_module, "AT_ONCE", 50)
    monkeypatch.setattr(head_module, "_log_odds", full_at_first(times, head_module._log_odds))
    np.testing.assert_allclose(head.log_odds("ball", values, at), expected, atol=1e-6)


@pytest.mark.parametrize(("times", "said"), [(0, False), (1, False), (2, True)])
def test_a_network_s_windows_are_put_together_on_the_cpu_or_all_is_done_there(caplog, times, said):
    class Network(torch.nn.Module):
        forward = staticmethod(full_at_first(times, lambda image: 3 * image))

    image = torch.rand(1, 1, 8, 8, 8)
    found = FlipAveragingInferer((4, 4, 4), flip_axes=(0,))(image, Network())
    torch.testing.assert_close(found, 3 * image)
    assert ("a network is applied on the CPU" in caplog.text) == said


def test_the_loops_of_a_fit_never_go_back_to_the_host(prior, settings, monkeypatch):
    """On the device meta nothing can: what goes back between the loops is left out."""
    there = prior.to("meta")
    assert there.field.template_net.layers()[0][0].device.type == "meta" and prior.device.type == "cpu"
    known = [(samples, transform, there) for samples, transform, _ in (stretched(prior, 100, n) for n in (0, 1))]
    monkeypatch.setattr(finetune_module, "_similarity", lambda twist: Similarity(1.0, np.eye(3), np.zeros(3)))
    monkeypatch.setattr(finetune_module, "normal_agreement", lambda normals, _: torch.ones(normals.shape[:-1]))
    monkeypatch.setattr(finetune_module, "field_shape", lambda *given: given)
    monkeypatch.setattr(LatentFinetune, "_no_worse", lambda self, fit, *_: fit)
    for _, weights, alpha, *_ in LatentFinetune(settings, "meta").fit_batch(known):
        assert {own.device.type for own in (alpha, *weights.values())} == {"meta"}
        assert there.field.sdf(weights, alpha, torch.rand(70, 3, device="meta"), chunk=32).shape == (70,)
