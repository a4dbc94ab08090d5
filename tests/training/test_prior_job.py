"""Training through the bundle's own config: ellipsoids in, a prior out."""

import copy
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ignite.engine import Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.organ.pack import OrganPack
from scripts.prior.linear import LinearShapeModel, beyond, sample_grid
from scripts.shapes.preparation import prepare
from scripts.shapes.samples import SampleSettings
from scripts.training.prior.check import held_out_scores
from scripts.training.prior.job import PriorTrainingError, require_all, select_targets, split_files, train_others
from scripts.training.prior.network import initial_codes
from scripts.training.prior.points import EpochSampler, ShapePointsDataset
from tests.helpers.ellipsoid_files import EGG
from tests.helpers.tiny_run import SETTINGS, run, workflow


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
        split_files(OrganPack.load(organ[0]), organ[1] / "labels")["train"], EGG, organ[1] / "samples", SETTINGS
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
        split_files(OrganPack.load(organ[0]), organ[1] / "labels")["train"], EGG, organ[1] / "samples", SETTINGS
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
    stopped.finalize()
    run(bundle_root, half, *organ, resume=str(half / "run" / "egg" / "checkpoint_final.pt"))
    assert (half / "prior.safetensors").read_bytes() == expected


def test_a_prior_that_learned_nothing_is_not_written(bundle_root, organ, tmp_path):
    with pytest.raises(SystemExit, match="^Error: 'egg' describes its own training shapes with") as stop:
        run(bundle_root, tmp_path, *organ, max_epochs=1, epoch_length=1, warm_up_steps=0)
    assert isinstance(stop.value.__cause__, PriorTrainingError)
    assert not (tmp_path / "prior.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "liver"}, "--label liver: 'egg' has the structures egg"),
        ({"dataset_dir": "nowhere"}, "nowhere does not exist; give a folder"),
        ({"init": "nowhere.safetensors"}, "--init nowhere.safetensors: there is no such file"),
        ({"organ": "spline", "dataset_dir": "nowhere"}, "nowhere does not exist; give a folder"),
    ],
)
def test_what_cannot_be_trained_stops_with_one_line(bundle_root, organ, tmp_path, changes, message):
    given = {"organ": str(organ[0]), "dataset_dir": str(organ[1] / "labels"), **changes}
    job = workflow(bundle_root, tmp_path, given.pop("organ"), organ[1], **given)
    job.initialize()
    with pytest.raises(SystemExit, match=f"^Error: {message}"):
        job.run()


def test_config_offers_what_hosts_ask_for(bundle_root, organ, tmp_path):
    job = workflow(bundle_root, tmp_path, *organ)
    job.initialize()
    assert job.check_properties() == []


def test_log_and_report_hold_the_curves(trained):
    prior, folder = trained
    text = (folder / "run" / "egg" / "report.md").read_text()
    assert "| 40 |" in text and "| 80 |" in text  # validations after two and four epochs
    assert f"{prior.card['held_out']['codes']['cd_mean']:.4f}" in text
    events = EventAccumulator(str(folder / "run" / "egg"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"loss/total", "loss/distance", "held_out/cd", "held_out/dsc"} <= set(tags)
    total = [event.value for event in events.Scalars("loss/total")]
    assert len(total) == 4 and total[-1] < total[0]


def test_card_holds_the_scores_of_unseen_shapes(trained):
    held_out = trained[0].card["held_out"]
    codes, weights = held_out["codes"], held_out["codes_and_weights"]
    assert codes["n"] == weights["n"] == 2
    assert weights["dice_mean"] > codes["dice_mean"] > 0.9
    assert 0 < held_out["cd_noise_floor"] < weights["cd_mean"] < codes["cd_mean"]


def test_best_weights_are_put_back(bundle_root, organ, tmp_path):
    """A learning rate that wrecks the network after a good start: the validation before that wins."""
    job = workflow(bundle_root, tmp_path, *organ, keep_best=True, val_interval=1, min_dice=0.0)
    job.initialize()
    trainer = job.parser.get_parsed_content("train#trainer")
    network = job.parser.get_parsed_content("field_with_codes")

    def wreck() -> None:
        with torch.no_grad():
            for value in network.field.parameters():
                value.add_(torch.randn_like(value))

    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=3), wreck)
    handler = job.parser.get_parsed_content("handlers#validation")
    trainer.run()
    assert handler.best["step"] in (20, 40, 60)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, handler.best["network"][name])


def test_draws_depend_on_seed_and_epoch_alone(organ):
    files = split_files(OrganPack.load(organ[0]), organ[1] / "labels")["train"]
    shapes = prepare(files, EGG, organ[1] / "samples", SampleSettings(**SETTINGS)).train
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


def test_mixtures_stand_between_two_shapes(organ):
    files = split_files(OrganPack.load(organ[0]), organ[1] / "labels")["train"]
    shapes = prepare(files, EGG, organ[1] / "samples", SampleSettings(**SETTINGS)).train
    dataset = ShapePointsDataset(shapes, n_points=91, seed=3, mix_share=0.5, extent=1.0)
    items = [dataset[k % len(shapes)] for k in range(60)]
    mixed = [item for item in items if item["share"] > 0]
    assert 15 < len(mixed) < 45 and all(item["on_surface"].any() for item in items if item["share"] == 0)
    between = 0
    for item in mixed:
        assert not item["on_surface"].any() and item["points"].shape == (91, 3)
        own, other = (
            sample_grid(torch.as_tensor(shapes[int(item[key])].grid)[None], item["points"], 1.0)[:, 0]
            for key in ("index", "partner")
        )
        expected = (1 - item["share"]) * own + item["share"] * other + beyond(item["points"], 1.0)
        torch.testing.assert_close(item["sdf"], expected.to(item["sdf"].dtype), atol=1e-5, rtol=0)
        between += int(item["partner"] != item["index"])
    assert between > len(mixed) / 2


def test_mixed_codes_reach_the_field(trained, bundle_root, organ, tmp_path):
    job = workflow(bundle_root, tmp_path, *organ, mix_codes=0.5)
    job.initialize()
    network = job.parser.get_parsed_content("field_with_codes")
    points = torch.rand(2, 10, 3) * 0.4
    index, partner = torch.tensor([0, 1]), torch.tensor([3, 2])
    plain = network({"index": index, "points": points})
    same = network({"index": index, "points": points, "partner": partner, "share": torch.zeros(2)})
    full = network({"index": index, "points": points, "partner": partner, "share": torch.ones(2)})
    torch.testing.assert_close(same["sdf"], plain["sdf"])
    torch.testing.assert_close(full["sdf"], network({"index": partner, "points": points})["sdf"])
    assert run(bundle_root, tmp_path, *organ, mix_codes=0.5).card["dice_training"]["mean"] > 0.9


def test_fewer_cases_can_be_learned_from(bundle_root, organ, tmp_path):
    prepared = workflow(bundle_root, tmp_path, *organ, train_cases=3)
    prepared.initialize()
    shapes = prepared.parser.get_parsed_content("prepared")
    assert shapes.n_cases == 3 and len(shapes.train) == 3 and len(shapes.validation) == 2


def test_codes_start_as_scores():
    grids = np.random.default_rng(0).normal(size=(5, 6, 6, 6))
    linear = LinearShapeModel.train(grids, 1.0, 4)
    codes = initial_codes(linear, linear.scores(grids), 7)
    assert codes.shape == (5, 7)
    assert codes[:, 0].std() == pytest.approx(1.0, abs=0.05)
    assert codes[:, 4:].abs().max() < 0.1


def test_test_files_of_a_split_are_not_learned_from(organ):
    pack = OrganPack.load(organ[0])
    held = replace(pack, split={"test": ["case_00.nii.gz"], "validation": ["case_01.nii.gz"]})
    files = split_files(held, organ[1])
    assert [f.name for f in files["train"]] == [f"case_{n:02d}.nii.gz" for n in range(2, 8)]
    assert [f.name for f in files["validation"]] == ["case_01.nii.gz"]


def test_priors_are_chosen_by_name_or_value():
    pack = OrganPack.load("thorax")
    names = ["oesophagus", "heart", "trachea", "aorta"]
    assert [t.name for t in select_targets(pack, None)] == names
    assert [t.name for t in select_targets(pack, "all")] == names
    assert [t.name for t in select_targets(pack, "4, heart")] == ["heart", "aorta"]
    assert [t.name for t in select_targets(pack, (1, 3))] == ["oesophagus", "trachea"]
    assert [t.name for t in select_targets(pack, 2)] == ["heart"]
    with pytest.raises(ValueError, match="--label liver.*oesophagus \\(1\\), heart"):
        select_targets(pack, "liver")


def test_priors_of_other_packs_are_theirs_to_train():
    pack = OrganPack.load("thorax")
    heart, aorta = pack.structure("heart"), pack.structure("aorta")
    borrowed = replace(heart, prior=pack.folder.parent / "other" / "heart.safetensors")
    assert [t.name for t in select_targets(replace(pack, structures=(borrowed, aorta)), "all")] == ["aorta"]
    with pytest.raises(ValueError, match="--label 2: heart has the prior of 'other': train --organ other"):
        select_targets(replace(pack, structures=(borrowed, aorta)), 2)
    elsewhere = replace(aorta, prior=pack.folder.parent / "third" / "aorta.safetensors")
    two = replace(pack, structures=(borrowed, elsewhere, pack.structure("trachea")))
    with pytest.raises(ValueError, match="aorta has the prior of 'third': train --organ other and --organ third$"):
        select_targets(two, "heart,aorta")
    with pytest.raises(ValueError, match="all priors of 'thorax' are other packs'"):
        select_targets(replace(pack, structures=(borrowed,)), None)


@pytest.mark.parametrize("place", [".", ".."])
def test_a_pack_that_is_given_as_the_folder_one_is_in_has_the_same_priors(monkeypatch, tmp_path, place):
    inner = tmp_path / "abdomen" / "inner"
    inner.mkdir(parents=True)
    shutil.copy(OrganPack.load("abdomen").file, inner.parent)
    pack = OrganPack.load(inner.parent)
    monkeypatch.chdir(inner.parent if place == "." else inner)
    here = OrganPack.load(place)
    assert [one.prior.resolve() for one in here.structures] == [one.prior for one in pack.structures]
    assert [target.name for target in select_targets(here, None)] == ["spleen", "stomach"]


@pytest.mark.parametrize("door", ["monai.bundle run", "train-prior"])
def test_priors_are_trained_in_turn(tmp_path, caplog, door):
    """Each of the others gets the run's own command line with its --label; one that fails stops nothing."""
    targets = select_targets(OrganPack.load("thorax"), "oesophagus,heart,aorta")
    script = tmp_path / "record.py"
    script.write_text(
        f"import sys; open({str(tmp_path / 'log')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        "sys.exit('heart' in sys.argv)"
    )
    command = ["python", str(script), *door.split(), "--organ", "thorax"]
    with caplog.at_level(logging.INFO):
        failed = train_others(targets, None, None, command)
    assert (tmp_path / "log").read_text().splitlines() == [
        f"{door} --organ thorax --label {name}" for name in ("oesophagus", "heart")
    ]
    assert failed == ["heart"] and "prior 3 of 3: aorta" in caplog.text
    with pytest.raises(PriorTrainingError, match="heart"):
        require_all(failed)
    with pytest.raises(ValueError, match="single --label"):
        train_others(targets, "one.safetensors", None, command)
    with pytest.raises(ValueError, match="here give label, one of: oesophagus, heart, aorta"):
        train_others(targets, None, None, ["pytest"])
    assert train_others(targets[:1], "one.safetensors", None, ["pytest"]) == []
