import numpy as np
import pytest

from scripts.geometry.surface import mask_to_surface
from scripts.prior.context import fit_context
from scripts.prior.joint import JointShapeModel

SPACING = 3.0
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
PACK = """
name: pair
labels: {1: big, 2: small}
structures: [{name: big, labels: [1]}, {name: small, labels: [2]}]
"""


def ball(centre, radius, shape=(60, 40, 40)):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) * SPACING
    return np.linalg.norm(index - centre, axis=-1) < radius


def pair(size: float, shift: float = 0.0) -> dict:
    """Two balls side by side whose sizes vary together, at a place of their own."""
    big = ball([60 + shift, 60, 60], 24 * size)
    small = ball([60 + shift + 60 * size, 60, 60], 14 * size)
    return {"big": (big, AFFINE), "small": (small, AFFINE)}


@pytest.fixture(scope="module")
def model() -> JointShapeModel:
    sizes = np.linspace(0.8, 1.2, 8)
    return JointShapeModel.train([pair(s, 2 * k) for k, s in enumerate(sizes)], n_modes=6, deformed_copies=1)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def predicted(context, name):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (60, 40, 40)], indexing="ij"), -1).reshape(-1, 3) * SPACING
    return context.of(name, index).reshape(60, 40, 40) < 0


def test_an_unseen_pair_is_explained(model):
    truth = pair(1.07, 9.0)
    context = fit_context({n: mask_to_surface(*v) for n, v in truth.items()}, model)
    assert set(context.structures) == set(truth)
    for name in ("big", "small"):
        assert dice(predicted(context, name), truth[name][0]) > 0.9


def test_a_missing_structure_is_predicted_from_the_other(model):
    truth = pair(1.0, 4.0)
    context = fit_context({"big": mask_to_surface(*truth["big"])}, model)
    assert dice(predicted(context, "small"), truth["small"][0]) > 0.6


def test_a_broken_mask_is_aligned_by_its_context(model):
    truth = pair(1.0, 4.0)
    context = fit_context({"big": mask_to_surface(*truth["big"])}, model)
    anchor = np.random.default_rng(0).normal(size=(500, 3))
    anchor *= 0.7 / np.linalg.norm(anchor, axis=1, keepdims=True)
    found = context.transform("small", anchor)
    centre = np.argwhere(truth["small"][0]).mean(0) * SPACING
    assert np.linalg.norm(found.to_canonical(centre[None])) < 0.35
    assert found.similarity.scale == pytest.approx(0.7 / 14.0, rel=0.25)


def test_saved_model_gives_the_same_fit(model, tmp_path):
    model.save(tmp_path / "joint.safetensors")
    again = JointShapeModel.load(tmp_path / "joint.safetensors")
    assert again.n_modes == model.n_modes and again.radius_mm == pytest.approx(model.radius_mm)
    points = np.random.default_rng(0).uniform(20, 120, (200, 3))
    truth = pair(1.0)
    surfaces = {n: mask_to_surface(*v) for n, v in truth.items()}
    fits = [fit_context(surfaces, own) for own in (model, again)]
    one, two = (np.stack([fit.of(name, points) for name in ("big", "small")]) for fit in fits)
    assert np.abs(one - two).max() < 0.5


def test_training_is_reproducible():
    cases = [pair(0.9), pair(1.1)]
    one, two = (JointShapeModel.train(cases, n_modes=2, deformed_copies=2) for _ in range(2))
    for name in one.parts:
        assert (one.parts[name].model.modes == two.parts[name].model.modes).all()


def test_errors_say_what_is_missing(model):
    with pytest.raises(ValueError, match="at least two cases"):
        JointShapeModel.train([pair(1.0)])
    with pytest.raises(ValueError, match="at least one structure"):
        fit_context({}, model)
