"""The saved prior: bytes, card, codes."""

from copy import deepcopy

import pytest
import torch

from scripts.prior.prior import ShapePrior, code_statistics, regress_codes, template_surface


def test_template_of_mean_sphere(prior):
    radius = prior.template_points.norm(dim=-1)
    assert radius.mean() == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(
        (prior.template_normals * prior.template_points).sum(-1) / radius, torch.ones(len(radius)), atol=0.1, rtol=0
    )
    assert template_surface(prior.field, resolution=24).is_watertight


def test_round_trip(prior, tmp_path):
    path = prior.save(tmp_path / "new" / "ball.safetensors")
    loaded = ShapePrior.load(path)
    assert loaded.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert loaded.card == prior.card and loaded.scale_mm == 31.5 and loaded.device.type == "cpu"
    points = torch.rand(1, 20, 3)
    alpha, beta = prior.split_codes(prior.code_mean[None])
    rounded = deepcopy(prior.field).half().float()
    assert torch.equal(loaded.field(alpha, beta, points)["sdf"], rounded(alpha, beta, points)["sdf"])
    torch.testing.assert_close(
        rounded(alpha, beta, points)["sdf"], prior.field(alpha, beta, points)["sdf"], atol=2e-3, rtol=0
    )
    assert not any(p.requires_grad for p in loaded.field.parameters())
    assert loaded.linear is not None and loaded.linear.n_modes == 2
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_prior_without_linear_model(prior, tmp_path):
    bare = ShapePrior(**{**prior.__dict__, "linear": None, "linear_to_code": None})
    loaded = ShapePrior.load(bare.save(tmp_path / "bare.safetensors"))
    assert loaded.linear is None
    with pytest.raises(ValueError, match="no linear model"):
        loaded.codes_from_scores(torch.zeros(2))


def test_missing_and_foreign_files_are_refused(tmp_path, prior):
    with pytest.raises(FileNotFoundError, match="train_prior"):
        ShapePrior.load(tmp_path / "none.safetensors")
    torch_file = prior.save(tmp_path / "a.safetensors")
    torch_file.write_bytes(torch_file.read_bytes().replace(b"implicit-shape-prior/1", b"implicit-shape-prior/9"))
    with pytest.raises(ValueError, match="format"):
        ShapePrior.load(torch_file)


def test_codes_are_whitened(prior):
    codes = torch.randn(400, 4) @ torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) + 2.0
    mean, whitening = code_statistics(codes)
    latent = torch.linalg.solve(whitening, (codes - mean).T).T
    torch.testing.assert_close(latent.T @ latent / 399, torch.eye(4), atol=1e-3, rtol=0)
    latent = torch.randn(3, 5)
    torch.testing.assert_close(prior.latent_from_codes(prior.codes_from_latent(latent)), latent, atol=1e-4, rtol=1e-3)
    alpha, beta = prior.split_codes(prior.codes_from_latent(latent))
    assert alpha.shape == (3, 3) and beta.shape == (3, 2)


def test_fits_leave_components_that_are_not_in_use():
    codes = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    whole = code_statistics(codes[:, [0, 1, 4]])
    codes[:, [2, 3, 5]] = 0.0
    mean, whitening = code_statistics(codes)
    moved = mean + torch.full((6,), 3.0) @ whitening.T
    assert moved[[2, 3, 5]].abs().max() < 1e-5
    torch.testing.assert_close(moved[[0, 1, 4]], whole[0] + torch.full((3,), 3.0) @ whole[1].T)
    assert torch.linalg.matrix_rank(whitening.double()) == 6
    mean, whitening = code_statistics(torch.zeros(5, 3))
    assert not mean.any() and torch.linalg.matrix_rank(whitening.double()) == 3


def test_more_code_dimensions_than_shapes():
    _, whitening = code_statistics(torch.randn(3, 8))
    assert torch.linalg.matrix_rank(whitening) == 8


def test_ridge_regression_recovers_a_linear_map():
    generator = torch.Generator().manual_seed(0)
    scores, matrix = torch.randn(60, 3, generator=generator), torch.randn(4, 6, generator=generator)
    codes = matrix[0] + scores @ matrix[1:]
    torch.testing.assert_close(regress_codes(scores, codes, ridge=1e-6), matrix, atol=1e-3, rtol=1e-3)


def test_the_linear_model_stays_where_it_is_fitted(prior, tmp_path):
    """On another device than the CPU the field moves there, the linear model does not."""
    loaded = ShapePrior.load(prior.save(tmp_path / "prior.safetensors"), "meta")
    assert loaded.template_points.device.type == "meta" and loaded.linear.mean.device.type == "cpu"
