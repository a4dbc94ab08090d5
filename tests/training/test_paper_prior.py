"""configs/paper_prior.yaml: the paper's own algorithm, on a few shapes and with a small network."""

import numpy as np
import pytest

from scripts.training.prior.check import training_dice
from tests.helpers.tiny_run import workflow

SMALL = {
    "hidden": 64,
    "max_code_dim": 8,
    "batch_size": 6,
    "n_points": 200,
    "epoch_length": 50,
    "network_lr": 5e-4,
    "code_lr": 5e-4,
    "warm_up_steps": 0,
    "min_dice": 0.0,
}


@pytest.fixture
def start(bundle_root, organ, tmp_path):
    """Start a training by the overlay with small sizes; its workflow."""
    jobs = []

    def begin(max_epochs, **changes):
        jobs.append(
            workflow(bundle_root, tmp_path, *organ, ["paper_prior"], **(SMALL | changes), max_epochs=max_epochs)
        )
        jobs[-1].initialize()
        return jobs[-1]

    yield begin
    for job in jobs:
        job.finalize()


def part(job, name):
    return job.parser.get_parsed_content(name)


def test_it_is_what_the_paper_says(start):
    job = start(1)
    field, weights = part(job, "field_with_codes"), part(job, "loss").weights
    assert field.field.settings | {"hidden": 256} == {
        **{"hidden": 256, "layers": 4, "omega": 30.0, "hyper": "full", "rank": 8},
        **{"code_dim": 8, "hyper_code_dim": 8},  # though six shapes have five components
    }
    assert weights.flow_laplacian == 5.0 and weights.code == 1e5 and weights.hyper_code == 1e6
    assert weights.flow_jacobian == 0.0 and field.laplacian and field.first_order_share == 1.0
    for codes in (field.alpha, field.beta):
        assert 0.005 < codes.std() < 0.02
    rates = {group["lr"] for group in part(job, "optimizer").param_groups}
    part(job, "train#trainer").run()
    assert rates == {5e-4} == {group["lr"] for group in part(job, "optimizer").param_groups}  # no schedule


def test_codes_that_start_as_noise_take_hold(start):
    job = start(5)
    part(job, "train#trainer").run()
    network, shapes = part(job, "field_with_codes"), part(job, "prepared").train

    def dice(alpha, beta):
        return np.mean(list(training_dice(network.field, alpha.detach(), beta.detach(), shapes).values()))

    alpha, beta = network.alpha, network.beta
    own = dice(alpha, beta)
    of_the_mean = dice(*(codes.mean(0, keepdim=True).expand_as(codes) for codes in (alpha, beta)))
    assert own > 0.95 and own > of_the_mean + 0.03


@pytest.mark.parametrize("left_out", ["instance_code", "hyper_code"])
def test_a_code_that_is_left_out_stays_0(start, left_out):
    job = start(1, epoch_length=5, codes="noise", **{left_out: False})
    part(job, "train#trainer").run()
    network = part(job, "field_with_codes")
    out, kept = (network.alpha, network.beta) if left_out == "instance_code" else (network.beta, network.alpha)
    assert not out.any() and kept.all()
