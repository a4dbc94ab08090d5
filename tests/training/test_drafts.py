"""Drafts: flawed masks of every quality, made without a network."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import apply_affine
from scripts.training.evidence.drafts import Organ, draft, smooth_noise, warp, warped
from tests.helpers.mean_shape import dice

KINDS = {"plain": (1.0, 1.0, 1.0), "thick": (1.0, 1.0, 3.0), "oblique": (1.0, 1.5, 2.0)}


def ellipsoid(kind: str, radii_mm: tuple[float, float, float], centre_mm: tuple[float, float, float]) -> Organ:
    turn = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix() if kind == "oblique" else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(KINDS[kind])
    shape = np.ceil(60 / np.array(KINDS[kind])).astype(int)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    world = apply_affine(affine, index.reshape(-1, 3)).reshape(index.shape)
    return Organ(np.linalg.norm((world - centre_mm) / radii_mm, axis=-1) < 1, affine)


@pytest.mark.parametrize("kind", KINDS)
def test_quality_falls_with_severity_from_nearly_right_to_poor(kind):
    organ, other = ellipsoid(kind, (9, 12, 16), (0, 0, 0)), ellipsoid(kind, (13, 9, 11), (4, 0, 0))
    rng = np.random.default_rng(0)
    truth = organ.signed_mm < 0

    def quality(severity):
        return np.array([dice(draft(organ, other, severity, rng), truth) for _ in range(12)])

    mild, middle, severe = quality(0.03), quality(0.4), quality(1.0)
    assert mild.min() > 0.85 and mild.mean() > 0.93
    assert mild.mean() > middle.mean() + 0.03 > severe.mean() + 0.06
    assert severe.min() < 0.7


def test_drafts_are_too_large_as_well_as_too_small():
    organ, other = ellipsoid("plain", (9, 12, 16), (0, 0, 0)), ellipsoid("plain", (13, 9, 11), (0, 0, 0))
    rng = np.random.default_rng(1)
    size = np.count_nonzero(organ.signed_mm < 0)
    volumes = [np.count_nonzero(draft(organ, other, 0.7, rng)) / size for _ in range(20)]
    assert min(volumes) < 0.8 and max(volumes) > 1.2


def test_the_same_seed_gives_the_same_draft():
    organ, other = ellipsoid("plain", (9, 12, 16), (0, 0, 0)), ellipsoid("plain", (13, 9, 11), (0, 0, 0))
    one, same, another = (draft(organ, other, 0.5, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one == same).all() and (one != another).any()


def test_another_patient_s_organ_is_laid_over_by_place_and_size():
    """Whatever its own grid: an ellipsoid becomes the other one."""
    organ, donor = ellipsoid("oblique", (9, 12, 16), (3, -2, 5)), ellipsoid("thick", (12, 10, 13), (-4, 6, 0))
    laid = donor.laid_over(organ, organ.signed_mm.shape, organ.affine)
    assert dice(laid < 0, organ.signed_mm < 0) > 0.92


def test_noise_is_smooth_and_of_unit_spread():
    for length in ((2.0, 2.0, 2.0), (8.0, 8.0, 2.0)):
        noise = smooth_noise((50, 50, 40), np.array(length), np.random.default_rng(0))
        assert 0.6 < noise.std() < 1.2 and abs(noise.mean()) < 0.4
        steps = [np.abs(np.diff(noise, axis=axis)).mean() for axis in range(3)]
        assert max(steps) < 0.5 and (length[0] == length[2] or steps[2] > 2 * steps[0])


def test_a_deformed_case_has_another_shape_but_no_tears():
    organ = ellipsoid("thick", (9, 12, 16), (0, 0, 0))
    shape = organ.signed_mm.shape
    index = warp(shape, organ.affine, organ.radius_mm, np.random.default_rng(2))
    moved = warped(organ.signed_mm, index) < 0
    assert 0.7 < dice(moved, organ.signed_mm < 0) < 0.97
    assert ndimage.label(moved)[1] == 1
    spacing = np.array(KINDS["thick"])
    own = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    shift_mm = (index - own) * spacing[:, None, None, None]
    assert 0.03 < np.sqrt((shift_mm**2).mean()) / organ.radius_mm < 0.12
    jacobian = np.linalg.det(np.stack([np.stack(np.gradient(index[k])) for k in range(3)]).transpose(2, 3, 4, 0, 1))
    assert (jacobian > 0).mean() > 0.999
