"""Training through the bundle's own config: ellipsoids in, a prior out."""

import copy

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow

from scripts.organ import OrganPack
from scripts.prior.check import held_out_scores
from scripts.prior.job import PriorTrainingError, load_or_create_pack, select_structures, split_files
from scripts.prior.linear import LinearShapeModel
from scripts.prior.points import EpochSampler, ShapePointsDataset
from scripts.prior.preparation import prepare
from scripts.prior.prior import ShapePrior
from scripts.prior.samples import SampleSettings
from scripts.prior.training import initial_codes

from .shapes import ellipsoid_radii, write_ellipsoids

TINY = {
    "hidden": 32,
    "layers": 4,
    "warm_up_steps": 60,
    "max_epochs": 4,
    "epoch_length": 20,
    "batch_size": 6,
    "n_points": 150,
    "grid_size": 14,
    "picct_points": 150,
    "held_out_steps": 40,
    "val_interval": 2,
    "val_steps": 20,
    "workers": 1,
    "sample_settings#n_surface": 2000,
    "sample_settings#n_free": 2000,
    "sample_settings#box_points": 4000,
}
SETTINGS = {"n_surface": 2000, "n_free": 2000, "box_points": 4000, "grid_size": 14, "picct_points": 150}


def workflow(bundle_root, folder, organ, cache, **changes):
    """The training workflow with tiny settings; its results go to `folder`."""
    given = {**TINY, "dataset_dir": str(cache / "labels"), "cache_dir": str(cache / "samples"), **changes}
    return ConfigWorkflow(
        config_file=str(bundle_root / "configs" / "train_prior.yaml"),
        meta_file=None,
        logging_file=False,
        workflow_type="train",
        organ=str(organ),
        run_dir=str(folder / "run"),
        output_file=str(folder / "prior.safetensors"),
        **given,
    )


def run(*args, **changes) -> ShapePrior:
    job = workflow(*args, **changes)
    job.initialize()
    job.run()
    return ShapePrior.load(args[1] / "prior.safetensors")


@pytest.fixture(scope="module")
def organ(tmp_path_factory):
    """An organ pack with a split, and the folder that holds its label maps and cached samples."""
    cache = tmp_path_factory.mktemp("data")
    train = write_ellipsoids(cache / "labels", ellipsoid_radii(6, seed=0))
    held_out = write_ellipsoids(cache / "labels", ellipsoid_radii(2, seed=1), first=6)
    pack = tmp_path_factory.mktemp("pack")
    settings = {
        "name": "egg",
        "labels": {1: "egg"},
        "structures": [{"name": "egg", "labels": [1]}],
        "split": {"train": [f.name for f in train], "validation": [f.name for f in held_out]},
        "provenance": {"licence": "none needed"},
    }
    (pack / "organ.yaml").write_text(yaml.safe_dump(settings))
    return pack, cache


@pytest.fixture(scope="module")
def trained(bundle_root, organ, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return run(bundle_root, folder, *organ), folder


def test_learns_ellipsoids_and_fits_unseen_ones(trained, organ):
    prior, _ = trained
    card = prior.card
    assert card["n_cases"] == 6 and card["structure"] == "egg" and card["provenance"] == {"licence": "none needed"}
    assert card["dice_training"]["mean"] > 0.9 and card["dice_training"]["n"] == 6
    assert card["dice_held_out"]["mean"] > 0.9 and card["dice_held_out"]["n"] == 2
    assert len(card["data_hash"]) == 64
    prepared = prepare(
        split_files(OrganPack.load(organ[0]), organ[1] / "labels")["train"], [1], organ[1] / "samples", SETTINGS
    )
    assert prepared.data_hash == card["data_hash"]
    outward = (prior.template_points * prior.template_normals).sum(-1)
    assert (outward > 0).float().mean() > 0.95
    assert prior.template_points.norm(dim=-1).max() < 1.0
    # the loaded prior is as good as the one that was saved
    assert min(score.dice for score in held_out_scores(prior, prepared.train[:2], steps=30).values()) > 0.9


def test_linear_scores_lead_to_the_shape(trained, organ):
    prior, _ = trained
    prepared = prepare(
        split_files(OrganPack.load(organ[0]), organ[1] / "labels")["train"], [1], organ[1] / "samples", SETTINGS
    )
    assert prior.linear is not None
    alpha, beta = prior.split_codes(prior.codes_from_scores(prior.linear.scores(prepared.grids)))
    points = torch.from_numpy(np.stack([shape.surface[:500, :3] for shape in prepared.train]))
    assert prior.field(alpha, beta, points)["sdf"].abs().mean() < 0.03


def test_same_seed_same_bytes_and_a_resumed_run_too(trained, bundle_root, organ, tmp_path):
    _, folder = trained
    expected = (folder / "prior.safetensors").read_bytes()
    whole, half = tmp_path / "whole", tmp_path / "half"
    run(bundle_root, whole, *organ)
    assert (whole / "prior.safetensors").read_bytes() == expected
    # stopped after two of four epochs, its schedule still that of four
    stopped = workflow(bundle_root, half, *organ, **{"train#trainer#max_epochs": 2})
    stopped.initialize()
    stopped.parser.get_parsed_content("train#trainer").run()
    run(bundle_root, half, *organ, resume=str(half / "run" / "egg" / "checkpoint_final.pt"))
    assert (half / "prior.safetensors").read_bytes() == expected


def test_a_prior_that_learned_nothing_is_not_written(bundle_root, organ, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        run(bundle_root, tmp_path, *organ, max_epochs=1, epoch_length=1, warm_up_steps=0)
    causes, error = [], caught.value
    while error is not None:
        causes.append(error)
        error = error.__cause__  # type: ignore[assignment]
    assert any(isinstance(cause, PriorTrainingError) or "surface" in str(cause) for cause in causes)
    assert not (tmp_path / "prior.safetensors").exists()


def test_config_offers_what_hosts_ask_for(bundle_root, organ, tmp_path):
    job = workflow(bundle_root, tmp_path, *organ)
    job.initialize()
    assert job.check_properties() == []


def test_starts_from_an_existing_prior(trained, bundle_root, organ, tmp_path):
    prior, folder = trained
    job = workflow(bundle_root, tmp_path, *organ, init=str(folder / "prior.safetensors"))
    job.initialize()
    network = job.parser.get_parsed_content("network")
    torch.testing.assert_close(network.field.state_dict(), prior.field.state_dict())
    job = workflow(bundle_root, tmp_path, *organ, init=str(folder / "prior.safetensors"), hidden=16)
    job.initialize()
    with pytest.raises(RuntimeError, match="evaluate"):
        job.parser.get_parsed_content("network")


def test_draws_depend_on_seed_and_epoch_alone(organ):
    files = split_files(OrganPack.load(organ[0]), organ[1] / "labels")["train"]
    shapes = prepare(files, [1], organ[1] / "samples", SampleSettings(**SETTINGS)).train
    dataset = ShapePointsDataset(shapes, n_points=90, seed=3)
    sampler = EpochSampler(dataset, 14)
    order, item = list(sampler), dataset[2]
    assert np.bincount(order).max() - np.bincount(order, minlength=6).min() <= 1
    dataset.set_epoch(1)
    assert list(sampler) != order
    other = copy.deepcopy(dataset)
    torch.testing.assert_close(dataset[2], other[2])
    dataset.set_epoch(0)
    assert list(sampler) == order
    torch.testing.assert_close(dataset[2], item)
    assert item["on_surface"].sum() == 45 and item["on_surface"][:30].sum() == 15
    assert item["sdf"][item["on_surface"]].abs().max() == 0


def test_codes_start_as_scores():
    grids = np.random.default_rng(0).normal(size=(5, 6, 6, 6))
    linear = LinearShapeModel.train(grids, 1.0, 4)
    codes = initial_codes(linear, linear.scores(grids), 7)
    assert codes.shape == (5, 7)
    assert codes[:, 0].std() == pytest.approx(1.0, abs=0.05)
    assert codes[:, 4:].abs().max() < 0.1


def test_a_pack_is_made_from_the_labels_found(organ, tmp_path):
    pack = load_or_create_pack(str(tmp_path / "blob"), organ[1])
    assert pack.labels == {1: "blob"} and (tmp_path / "blob" / "organ.yaml").is_file()
    assert select_structure(pack, None).name == "blob" == select_structure(pack, 1).name
    with pytest.raises(ValueError, match="--label"):
        select_structure(pack, "heart")
    files = split_files(pack, organ[1])
    assert len(files["train"]) == 8 and not files["validation"]
