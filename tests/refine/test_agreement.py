"""Figures of a mask beside its fit: balls on an anisotropic grid, whose distances are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from scripts.refine.agreement import Agreement

SPACING = np.array([1.0, 1.0, 2.0])
SHAPE = (40, 40, 20)
BOX = tuple(slice(3, 3 + n) for n in SHAPE)
CENTRE = np.array([20.0, 20.0, 20.0])
AFFINE = np.diag([*SPACING, 1.0])
RADIUS_MM = 12.0


def places(shape=SHAPE, offset=0.0):
    return (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - offset) * SPACING


def ball(radius_mm: float, centre=CENTRE) -> np.ndarray:
    return np.linalg.norm(places() - centre, axis=-1) < radius_mm


def fitted(
    radius_mm: float = RADIUS_MM,
    linear_mm: float | None = None,
    context_mm: float | None = None,
    mean_ml: float | None = None,
):
    """A fit that is a ball around the same place, in the grid whose box the masks are of."""
    corner = CENTRE + 3 * SPACING

    def distance(radius):
        return None if radius is None else lambda points: np.linalg.norm(points - corner, axis=1) - radius

    fit = SimpleNamespace(
        radius_mm=radius_mm,
        sdf_mm=distance(radius_mm),
        linear_mm=distance(linear_mm),
        figures={"latent_rms": 0.5, "residual_median_mm": 1.2, "residual_p90_mm": 2.4},
        similarity=SimpleNamespace(scale=0.5 / radius_mm),
    )
    context = None if context_mm is None else SimpleNamespace(of=lambda name, points: distance(context_mm)(points))
    return SimpleNamespace(
        name="ball",
        fit=fit,
        transform=SimpleNamespace(rotation_deg=3.0, converged=True),
        prior=SimpleNamespace(
            scale_mm=24.0,
            card={} if mean_ml is None else {"volume": {"mean_ml": mean_ml, "log_sd": 0.2, "n": 10**6}},
        ),
        affine=AFFINE,
        mask=SimpleNamespace(shape=tuple(n + 6 for n in SHAPE)),
        context=context,
    )


def figures(mask, *, initial=None, own=None, box=BOX):
    initial = mask if initial is None else initial
    return Agreement(own or fitted(), initial, ball(RADIUS_MM), box).of(mask)


def test_a_mask_that_is_its_fit_agrees_in_all():
    found = figures(ball(RADIUS_MM))
    assert found["dice_with_fit"] == 1.0 and found["surface_ratio"] == 1.0 and found["pieces"] == 1
    assert found["beyond_fit"] == found["lacks_of_fit"] == found["holes"] == found["beside_largest"] == 0.0
    assert found["changed"] == 0.0 and found["fit_to_mask_p98"] == 0.0
    assert abs(found["mask_to_fit_p50"]) < 0.1
    assert found["residual_median"] == 0.1 and found["residual_p90"] == 0.2 and found["scale"] == 1.0


def test_lengths_are_shares_of_the_radius_and_have_a_sign():
    smaller, larger = figures(ball(9.0)), figures(ball(15.0))
    assert smaller["mask_to_fit_p50"] == pytest.approx(-3.0 / 12.0, abs=0.06)
    assert larger["mask_to_fit_p50"] == pytest.approx(3.0 / 12.0, abs=0.06)
    assert smaller["fit_to_mask_p50"] == pytest.approx(3.0 / 12.0, abs=0.06)
    assert smaller["lacks_of_fit"] > 0.5 and smaller["beyond_fit"] == 0.0
    assert larger["beyond_fit"] > 0.8 and larger["lacks_of_fit"] == 0.0


def test_a_volume_is_as_unusual_as_the_prior_s_shapes_make_it():
    mask = ball(RADIUS_MM)
    mean_ml = mask.sum() * 2.0 / 1000.0 / np.exp(0.2 * 1.5)
    assert figures(mask, own=fitted(mean_ml=mean_ml))["volume_deviations"] == pytest.approx(1.5, abs=1e-3)
    assert figures(ball(0.0), initial=mask, own=fitted(mean_ml=mean_ml))["volume_deviations"] is None


def test_islands_and_holes_are_counted():
    mask = ball(RADIUS_MM)
    mask[20, 20, 10] = False
    mask[1:3, 1:3, 1] = True
    found = figures(mask)
    assert found["pieces"] == 2
    assert found["holes"] == pytest.approx(1 / mask.sum(), abs=1e-4)
    assert found["beside_largest"] == pytest.approx(4 / mask.sum(), abs=1e-4)
    assert found["mask_to_fit_p98"] >= figures(ball(RADIUS_MM))["mask_to_fit_p98"]


def test_what_is_not_there_has_no_figure():
    found = figures(ball(RADIUS_MM))
    assert found["mask_to_linear_p50"] is None and found["mask_to_context_p50"] is None
    assert found["volume_deviations"] is None
    found = figures(ball(RADIUS_MM), own=fitted(linear_mm=9.0, context_mm=18.0))
    assert found["mask_to_linear_p50"] == pytest.approx(0.25, abs=0.06)
    assert found["fit_to_linear_p50"] == pytest.approx(0.25, abs=0.06)
    assert found["mask_to_context_p50"] == pytest.approx(0.5, abs=0.06)


def test_what_was_changed_and_what_lies_at_the_grid_s_end():
    initial = ball(9.0)
    found = figures(ball(RADIUS_MM), initial=initial)
    assert found["changed"] == pytest.approx((ball(RADIUS_MM) & ~initial).sum() / initial.sum(), abs=1e-4)
    assert found["at_border"] == 0.0
    cut = np.zeros(SHAPE, bool)
    cut[0:10, 5:30, 5:15] = True
    at_end = tuple(slice(0, n) for n in SHAPE)
    assert 0.2 < figures(cut, box=at_end)["at_border"] < 0.6


def test_a_cut_mask_ends_flat_but_not_where_the_image_ends():
    whole = ball(RADIUS_MM)
    assert figures(whole)["flat_end"] < 0.5
    half = whole.copy()
    half[20:] = False
    assert figures(half)["flat_end"] > 0.95
    other_half = whole.copy()
    other_half[:20] = False
    assert figures(other_half)["flat_end"] > 0.95
    box = tuple(slice(0, n) for n in SHAPE)
    at_end = np.roll(other_half, -20, axis=0)
    assert figures(at_end, box=box)["flat_end"] < 0.5
    flat = whole.copy()
    flat[..., :8] = flat[..., 13:] = False  # five slices: too few to tell
    assert figures(flat)["flat_end"] < 0.5


def test_a_mask_of_which_nothing_is_left_has_figures():
    found = figures(np.zeros(SHAPE, bool), initial=ball(9.0))
    assert found["dice_with_fit"] == 0.0 and found["lacks_of_fit"] == 1.0 and found["pieces"] == 0
    assert found["mask_to_fit_p50"] is None and found["fit_to_mask_p50"] is None
