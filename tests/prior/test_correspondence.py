"""Places on the template and their colours, on a template that is a ball."""

import numpy as np
import pytest
import torch
import trimesh

from scripts.cases.mesh import write_mesh
from scripts.prior.correspondence import Correspondence, onto_template, template_colours, template_places


def directions(count: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(1)), dim=-1)


@pytest.mark.parametrize("radius", [0.3, 0.5, 0.8])
def test_points_are_moved_to_the_nearest_place_of_the_template(prior, radius):  # noqa: F811
    where = directions(500)
    places = onto_template(prior, radius * where)
    assert prior.field.template(places).detach().abs().max() < 5e-3
    cosine = torch.nn.functional.cosine_similarity(places, where)
    assert torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).max() < 8.0


def test_the_deformation_is_the_instances_own(prior):  # noqa: F811
    points = 0.5 * directions(300)
    alpha, beta = prior.split_codes(prior.code_mean[None])
    weights = {name: value.detach() for name, value in prior.field.weights(beta).items()}
    weights["weight2"] = torch.zeros_like(weights["weight2"])
    weights["bias2"] = torch.tensor([[0.1, 0.0, 0.0, 0.0]])  # the flow of every point
    places = template_places(prior, weights, alpha, points)
    torch.testing.assert_close(places, onto_template(prior, points + torch.tensor([0.1, 0.0, 0.0])))
    assert (places[:, 0] - onto_template(prior, points)[:, 0]).mean() > 0.03


def test_colours_rise_with_the_axes_and_are_the_same_everywhere(prior):  # noqa: F811
    ends = 0.5 * torch.cat([torch.eye(3), -torch.eye(3)])
    colours = template_colours(prior, ends.numpy())
    assert colours.dtype == np.uint8
    assert (np.diag(colours[:3]) > 245).all() and (np.diag(colours[3:]) < 50).all()
    np.testing.assert_array_equal(template_colours(prior, ends.numpy()[::-1]), colours[::-1])


def test_ply_is_read_back_with_colours_and_places(prior, tmp_path):  # noqa: F811
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    known = Correspondence.at(prior, torch.as_tensor(mesh.vertices, dtype=torch.float32))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(0.7, (1, 2, 3)) + np.eye(4, k=3) * 120.0)
    loaded = trimesh.load(write_mesh(tmp_path / "a.ply", mesh, known.vertex_data()), process=False)
    np.testing.assert_allclose(loaded.vertices, mesh.vertices, atol=1e-4)
    np.testing.assert_array_equal(loaded.visual.vertex_colors[:, :3], known.colours)
    stored = loaded.metadata["_ply_raw"]["vertex"]
    assert [str(stored["properties"][f"template_{axis}"]) for axis in "xyz"] == ["<f4"] * 3
    places = np.stack([np.ravel(stored["data"][f"template_{axis}"]) for axis in "xyz"], axis=1)
    np.testing.assert_array_equal(places, known.template_points)
