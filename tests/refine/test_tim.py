import numpy as np
import trimesh

from scripts.refine.tim import template_posterior


def test_posterior_tells_an_island_from_the_organ():
    template = trimesh.creation.icosphere(subdivisions=3, radius=0.6).vertices
    points = np.concatenate([template[::3], template[::9] * 0.15 + [1.6, 0, 0]])
    posterior = template_posterior(points, template, 500, seed=0)
    organ, island = posterior[: len(template[::3])], posterior[len(template[::3]) :]
    assert np.median(island) < 0.2 * np.median(organ)
    assert (posterior >= 0).all() and np.isfinite(posterior).all()


def test_posterior_sums_to_the_template_it_explains():
    template = trimesh.creation.icosphere(subdivisions=3, radius=0.6).vertices
    posterior = template_posterior(template[::2], template, 400, seed=0)
    assert 0.85 * 400 < posterior.sum() <= 400.0 + 1e-6


def test_the_same_seed_gives_the_same_numbers():
    template = trimesh.creation.icosphere(subdivisions=3, radius=0.6).vertices
    one, two = (template_posterior(template[::2] * 1.1, template, 300, seed=4) for _ in range(2))
    assert (one == two).all()
