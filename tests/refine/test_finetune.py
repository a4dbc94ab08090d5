"""What has a say in the fit: the walls that an error has cut into a mask have none in the deform weights."""

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.geometry.affine import Similarity
from scripts.geometry.resample import WorldGrid
from scripts.organ.pack import OrganPack
from scripts.refine import finetune as module
from scripts.refine.chain import Refiner
from scripts.refine.finetune import LatentFinetune, normal_agreement
from scripts.refine.reconstruct import ReconstructShape
from scripts.refine.settings import RefineSettings
from scripts.refine.stages import Fitted, Sampled, Unrefined
from scripts.refine.transforms import LatentFinetuned, PICCTd, TIMSampled
from tests.helpers.mean_shape import CENTRE, KINDS, mean_shape, run


def test_agreement_is_the_cosine_between_its_limits():
    """Which are 0.2 and 0.7."""
    angles = torch.deg2rad(torch.tensor([0.0, 45.0, 60.0, 90.0, 180.0]))
    normals = torch.stack([angles.cos(), angles.sin(), torch.zeros(5)], -1)
    gradient = torch.tensor([[2.5, 0.0, 0.0]]).expand(5, 3)  # its length does not matter
    found = normal_agreement(normals, gradient)
    assert found.tolist() == pytest.approx([1.0, 1.0, 0.6, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_do_not_follow_the_walls_of_a_bite(kind, monkeypatch):
    """A ball is cut out at the end of the organ: the fit's surface must pass over it, nearer to the truth."""
    truth, affine = mean_shape(kind)
    points = WorldGrid(affine, truth.shape).points_world()
    inside = points[truth > 0]
    bite = (np.linalg.norm(points - inside[np.argmax(inside[:, 1])], axis=-1) < 9.0) & (truth > 0)
    data = {"pred": MetaTensor(torch.from_numpy(np.where(bite, 0, truth)[None]), affine=torch.as_tensor(affine))}
    refiner = Refiner("hippocampus", see=False)
    for step in (PICCTd("pred", refiner), TIMSampled("pred", refiner)):
        data = step(data)
    (case,) = data["pred_shapes"]
    found = {}
    finetune = LatentFinetune(RefineSettings.load("default", OrganPack.load("hippocampus")))
    for every_normal_agrees in (False, True):
        if every_normal_agrees:
            monkeypatch.setattr(module, "ACROSS_COSINE", -3.0)
            monkeypatch.setattr(module, "ALONG_COSINE", -2.0)
        fitted = finetune(case.samples, case.transform, case.prior)
        found[every_normal_agrees] = (fitted.sdf_mm(points[bite]) < 0).mean()
    assert found[False] > found[True] + 0.05


@pytest.fixture(scope="module")
def two_organs() -> dict[Hashable, Any]:
    """Two structures of one pack, made of the hippocampus' mean shape, which neither of their priors knows."""
    label_map, affine = mean_shape("plain")
    apart = np.zeros((100, *label_map.shape[1:]), np.uint8)
    apart[:44][label_map > 0], apart[56:][label_map > 0] = 2, 3
    data = {"pred": MetaTensor(torch.from_numpy(apart[None]), affine=torch.as_tensor(affine))}
    refiner = Refiner("thorax")
    for step in (PICCTd("pred", refiner), TIMSampled("pred", refiner)):
        data = step(data)
    return {**data, "refiner": refiner}


def fitted(data: dict[Hashable, Any]) -> dict[str, Any]:
    return {case.name: case for case in LatentFinetuned("pred", data["refiner"])(data)["pred_shapes"]}


def test_structures_fitted_together_are_fitted_as_alone(two_organs, monkeypatch):
    sizes = []
    fit_batch = LatentFinetune.fit_batch
    monkeypatch.setattr(
        LatentFinetune, "fit_batch", lambda self, s, seed: sizes.append(len(s)) or fit_batch(self, s, seed)
    )
    found = fitted(two_organs)
    assert sizes == [2]
    points = np.random.default_rng(0).uniform(-30.0, 30.0, (500, 3)) + CENTRE
    for name in ("heart", "trachea"):
        case = found[name]
        alone = LatentFinetune(RefineSettings.load())(case.samples, case.transform, case.prior)
        np.testing.assert_allclose(case.fit.sdf_mm(points), alone.sdf_mm(points), atol=2e-3)
        assert np.abs(alone.sdf_mm(points)).max() > 1.0
        assert case.fit.figures["residual_median_mm"] == pytest.approx(alone.figures["residual_median_mm"], abs=2e-3)


def test_a_structure_that_cannot_be_fitted_does_not_stop_the_others(two_organs):
    cases = {case.name: case for case in two_organs["pred_shapes"]}
    poor = replace(cases["heart"], prior=replace(cases["heart"].prior, linear=None))
    found = fitted({**two_organs, "pred_shapes": [poor, cases["trachea"]]})
    assert "no linear model" in found["heart"].failure
    assert isinstance(found["heart"], Unrefined)
    assert found["trachea"].failure == ""
    assert isinstance(found["trachea"], Fitted)


def test_a_mirror_image_is_fitted_as_its_original_in_one_batch_also_without_gradients(two_organs):
    """As a left and a right organ share a prior, in a host's inference mode."""
    case = next(case for case in two_organs["pred_shapes"] if case.name == "heart")
    mirror = Similarity(1.0, np.diag([-1.0, 1.0, 1.0]), np.zeros(3))
    there = replace(
        case.samples,
        points_world=mirror.apply(case.samples.points_world),
        normals_world=mirror.apply_directions(case.samples.normals_world),
        grid=replace(case.samples.grid, affine=np.diag([-1.0, 1.0, 1.0, 1.0]) @ case.samples.grid.affine),
    )
    turned = replace(case.transform, similarity=case.transform.similarity.compose(mirror.inverse()))
    with torch.inference_mode():
        one, other = LatentFinetune(RefineSettings.load()).fit_batch(
            [(case.samples, case.transform, case.prior), (there, turned, case.prior)]
        )
    points = np.random.default_rng(0).uniform(-30.0, 30.0, (500, 3)) + CENTRE
    assert np.linalg.det(one.similarity.rotation) * np.linalg.det(other.similarity.rotation) < 0
    np.testing.assert_allclose(other.sdf_mm(mirror.apply(points)), one.sdf_mm(points), atol=5e-3)


def test_a_fit_that_explains_the_mask_worse_than_its_start_falls_back_and_says_so(monkeypatch):
    truth, affine = mean_shape("plain")
    refiner = Refiner("hippocampus")
    sampled = refiner.sample(refiner.align(truth, affine), truth, affine)
    (sound,) = (one.fit for one in refiner.fit(sampled) if isinstance(one, Fitted))
    assert not sound.warning
    settings = refiner.settings["hippocampus"]
    monkeypatch.setattr(module, "WEIGHT_RATE", 0.5)  # weights that run away
    (case,) = (one for one in sampled if isinstance(one, Sampled))
    wild = LatentFinetune(settings)(case.samples, case.transform, case.prior)
    assert "linear" in wild.warning
    points = case.samples.points_world
    assert wild.linear_mm is not None
    np.testing.assert_allclose(wild.sdf_mm(points), wild.linear_mm(points), atol=1e-4)
    part = refiner.steps["hippocampus"].reconstruction(case.then(Fitted, fit=wild))
    assert wild.warning in part.warnings
    whole = ReconstructShape(replace(settings, fusion=False))(case.then(Fitted, fit=wild))
    assert wild.warning in whole.warnings


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_the_report_give_the_fit_by_codes_back(kind):
    (shape,) = run(*mean_shape(kind))["pred_shapes"]
    codes = torch.tensor(shape.quality["fit"]["codes"], dtype=torch.float32)
    points = np.asarray(shape.mesh.vertices[::40])
    canonical = torch.as_tensor(shape.fit.similarity.apply(points), dtype=torch.float32)
    alpha, beta = shape.prior.split_codes(shape.prior.codes_from_latent(codes)[None])
    expected = shape.prior.field.sdf(shape.prior.field.weights(beta), alpha, canonical) / shape.fit.similarity.scale
    np.testing.assert_allclose(shape.fit.codes_mm(points), expected.numpy(), atol=0.05)
