"""configs/train.yaml trains, stores plain weights, fine-tunes and scores, on a data set of small boxes."""

import math
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow, create_workflow

from scripts.organ.pack import OrganPack
from scripts.unet.network import build_unet
from tests.helpers.small_pack import BRIGHTNESS_NET, brightness_weights, nested_boxes, write_data, write_pack
from tests.helpers.small_training import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), 6)


def parsed(bundle_root, data, pack, **options):
    """Return the workflow, of which nothing has run."""
    return ConfigWorkflow(
        config_file=str(bundle_root / "configs" / "train.yaml"),
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        workflow_type="train",
        organ=str(pack),
        dataset_dir=str(data),
        **options,
    )


def test_properties_are_complete(bundle_root):
    workflow = create_workflow(
        config_file=str(bundle_root / "configs" / "train.yaml"), workflow_type="train", bundle_root=str(bundle_root)
    )
    assert workflow.check_properties() == []


@pytest.mark.slow
def test_training_learns_and_fine_tuning_goes_on(bundle_root, data, tmp_path):
    pack = write_pack(tmp_path / "boxes")
    first = train(bundle_root, data, pack, pack, max_epochs=8, val_interval=4, learning_rate=0.02, batch_size=1)
    assert first.check_properties() == []
    learned = first.parser.get_parsed_content("validate#evaluator").state.best_metric
    assert learned > 0.5
    rate = first.parser.get_parsed_content("optimizer").param_groups[0]["lr"]
    assert rate == pytest.approx(0, abs=1e-6)

    weights = torch.load(pack / "model.pt", weights_only=True)
    network = build_unet(OrganPack.load(pack))
    network.load_state_dict(weights)

    tuned = train(bundle_root, data, pack, tmp_path / "tuned", max_epochs=1, val_interval=1, learning_rate=1e-6)
    metrics = tuned.parser.get_parsed_content("validate#evaluator").state.metrics
    assert metrics["val_whole_dice"] == pytest.approx(learned, abs=0.03)
    assert (tmp_path / "tuned" / "model.pt").is_file()

    options = {"eval_dir": str(tmp_path / "eval"), "flip_averaging": False}  # a single pass, as validation
    scored = train(bundle_root, data, pack, tmp_path / "scored", ("evaluate_network.yaml",), **options)
    assert scored.parser.get_parsed_content("validate#evaluator").state.metrics["val_whole_dice"] == pytest.approx(
        learned
    )
    rows = (tmp_path / "eval" / "val_whole_dice_raw.csv").read_text().splitlines()
    assert len(rows) == 2 and "box_5" in rows[1]
    figures = scored.parser.get_parsed_content("validate#evaluator").state.metrics
    assert figures["val_whole_dsc_percent"] == pytest.approx(100 * figures["val_whole_dice"], rel=1e-4)
    assert figures["val_mean_dsc_percent"] == pytest.approx(100 * figures["val_mean_dice"], rel=1e-4)
    assert {"val_whole_hd95_mm", "val_mean_hd95_mm"} <= set(figures)


def test_network_is_scored_in_millimetres(bundle_root, tmp_path):
    """A network that sees only brightness, on voxels of 1 x 2 x 3 mm: the wrong voxel lies 3 mm beyond the shell."""
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    data, pack = write_data(tmp_path / "data", 6, affine), write_pack(tmp_path / "boxes")
    settings = yaml.safe_load((pack / "organ.yaml").read_text()) | {"spacing_mm": [1.0, 2.0, 3.0]}
    (pack / "organ.yaml").write_text(yaml.safe_dump(settings))
    for file in (data / "images").iterdir():
        image = np.rint(nib.load(file).get_fdata())
        image[3:12, 2:11, 12:14] = 1  # two slices more than the label has
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), file)
    torch.save(brightness_weights(), pack / "model.pt")
    options = {"eval_dir": str(tmp_path / "eval"), "network_def": BRIGHTNESS_NET}
    scored = train(bundle_root, data, pack, tmp_path / "scored", ("evaluate_network.yaml",), **options)
    figures = scored.parser.get_parsed_content("validate#evaluator").state.metrics
    voxels = 9 * 9 * 8
    assert figures["val_whole_dsc_percent"] == pytest.approx(100 * 2 * voxels / (2 * voxels + 9 * 9 * 2), rel=1e-4)
    assert figures["val_whole_hd95_mm"] == pytest.approx(6.0)
    rows = (tmp_path / "eval" / "val_whole_hd95_mm_raw.csv").read_text().splitlines()
    assert "box_5" in rows[1] and rows[1].endswith("6.0")


def test_every_structure_of_a_network_is_scored(bundle_root, data, tmp_path):
    structures = [{"name": "shell", "labels": [1]}, {"name": "core", "labels": [2]}]
    pack = write_pack(tmp_path / "boxes", structures=structures)
    torch.save(brightness_weights(), pack / "model.pt")
    options = {"eval_dir": str(tmp_path / "eval"), "network_def": BRIGHTNESS_NET}
    train(bundle_root, data, pack, tmp_path / "scored", ("evaluate_network.yaml",), **options)
    for name in ("dice", "dsc_percent", "hd95_mm"):
        head, row = (tmp_path / "eval" / f"val_whole_{name}_raw.csv").read_text().splitlines()
        assert head == "filename,class0,class1,mean" and len(row.split(",")) == 4


def test_large_images_are_cut_to_parts_that_hold_each_class(bundle_root, tmp_path):
    """A part of 20 voxels of an image of 60, around background, shell or core in turn."""
    data = write_data(tmp_path / "data", 4)
    for folder in ("images", "labels"):
        for file in (data / folder).iterdir():
            image = nib.load(file)
            nib.save(nib.Nifti1Image(np.pad(np.asanyarray(image.dataobj), [(22, 22)] * 3), image.affine), file)
    workflow = parsed(bundle_root, data, write_pack(tmp_path / "boxes"))
    dataset = workflow.parser.get_parsed_content("train#dataset")
    dataset.transform.set_random_state(0)
    shares = []
    for number in range(30):
        (case,) = dataset[number % len(dataset)]
        assert tuple(case["image"].shape) == tuple(case["label"].shape) == (1, 16, 16, 16)
        shares.append([(np.asarray(case["label"]) == value).any() for value in (1, 2)])
    assert 0.5 < np.mean([any(both) for both in shares]) < 1  # unlike a random part: 1 in 9 touches the boxes
    assert np.mean(shares, axis=0).min() > 0.3


def test_labels_on_a_grid_of_their_own_follow_the_image(bundle_root, data, tmp_path):
    """Labels on voxels half as large, with another origin and two voxels less on a side."""
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for file in sorted((data / "labels").iterdir()):
        values = np.asanyarray(nib.load(file).dataobj)
        nib.save(nib.load(data / "images" / file.name), tmp_path / "data" / "images" / file.name)
        affine = np.diag([0.5, 0.5, 0.5, 1.0])
        affine[:3, 3] = [2 - 0.25, -0.25, -0.25]
        fine = values.repeat(2, 0).repeat(2, 1).repeat(2, 2)[4:]
        nib.save(nib.Nifti1Image(fine, affine), tmp_path / "data" / "labels" / file.name)
    workflow = parsed(bundle_root, tmp_path / "data", write_pack(tmp_path / "boxes"))
    case = workflow.parser.get_parsed_content("validate#dataset")[0]
    assert np.array_equal(np.asarray(case["label"][0]), nested_boxes())


def test_values_that_the_pack_does_not_know_are_background(bundle_root, data, tmp_path):
    """Such as the brain stem in a label map of subcortical structures."""
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for file in sorted((data / "labels").iterdir()):
        values = np.asanyarray(nib.load(file).dataobj).copy()
        values[0, :2] = 15
        nib.save(nib.load(data / "images" / file.name), tmp_path / "data" / "images" / file.name)
        nib.save(nib.Nifti1Image(values, nib.load(file).affine), tmp_path / "data" / "labels" / file.name)
    pack = write_pack(tmp_path / "boxes")
    workflow = parsed(bundle_root, tmp_path / "data", pack)
    case = workflow.parser.get_parsed_content("validate#dataset")[0]
    assert np.array_equal(np.asarray(case["label"][0]), nested_boxes())
    train(bundle_root, tmp_path / "data", pack, tmp_path, max_epochs=1, val_interval=1)


def test_training_stops_where_nothing_is_gained(bundle_root, data, tmp_path):
    done = train(
        bundle_root,
        data,
        write_pack(tmp_path / "boxes"),
        tmp_path / "out",
        max_epochs=9,
        val_interval=1,
        patience=2,
        learning_rate=0.0,
        average=0.999,
    )
    assert done.parser.get_parsed_content("train#trainer").state.epoch == 3


def test_an_interrupted_run_goes_on(bundle_root, data, tmp_path):
    pack = write_pack(tmp_path / "boxes")
    train(bundle_root, data, pack, tmp_path / "a", max_epochs=1, val_interval=1)
    checkpoint = tmp_path / "a" / "logs" / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert state["trainer"]["iteration"] == 3  # of five cases, two a batch
    done = train(bundle_root, data, pack, tmp_path / "b", max_epochs=2, val_interval=1, resume=str(checkpoint))
    trainer = done.parser.get_parsed_content("train#trainer")
    assert (trainer.state.epoch, trainer.state.iteration) == (2, 6)
    moved = torch.load(tmp_path / "b" / "logs" / "checkpoint.pt", weights_only=True)
    assert moved["lr_scheduler"]["last_epoch"] == 6
    assert any(not torch.equal(moved["network"][key], state["network"][key]) for key in state["network"])


def test_another_network_s_run_is_not_gone_on_with(bundle_root, data, tmp_path):
    train(bundle_root, data, write_pack(tmp_path / "boxes"), tmp_path / "a", max_epochs=1, val_interval=1)
    other = write_pack(tmp_path / "other")
    text = (other / "organ.yaml").read_text()
    (other / "organ.yaml").write_text(text.replace("norm: INSTANCE", "norm: BATCH"))
    resume = str(tmp_path / "a" / "logs" / "checkpoint.pt")
    with pytest.raises(SystemExit, match=f"^Error: --resume {resume} is no checkpoint of a run with this organ"):
        train(bundle_root, data, other, tmp_path / "b", max_epochs=2, val_interval=1, resume=resume)


def test_the_moving_average_is_what_is_written(bundle_root, data, tmp_path):
    pack = write_pack(tmp_path / "boxes")
    train(bundle_root, data, pack, tmp_path / "out", max_epochs=1, val_interval=1, average=0.25)
    state = torch.load(tmp_path / "out" / "logs" / "checkpoint.pt", weights_only=True)
    written = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert all(torch.equal(written[key], state["average"][key].half()) for key in written)
    assert any(not torch.equal(written[key], state["network"][key].half()) for key in written)


def test_handlers_that_a_host_adds_act_before_the_bundles_own(bundle_root, data, tmp_path):
    """MONAI Label puts a loader of weights into train#handlers; training starts from those that the run names."""
    pack = write_pack(tmp_path / "boxes")
    network = build_unet(OrganPack.load(pack))
    torch.save(network.state_dict(), pack / "model.pt")
    torch.save({name: 2 * value for name, value in network.state_dict().items()}, tmp_path / "other.pt")
    loader = {"_target_": "CheckpointLoader", "load_path": str(tmp_path / "other.pt"), "strict": False}
    loader["load_dict"] = {"model": "$@network"}
    written = []
    for name, added in (("without", []), ("with", [loader])):
        done = train(
            bundle_root, data, pack, tmp_path / name, max_epochs=1, val_interval=1, **{"train#handlers": added}
        )
        written.append(torch.load(tmp_path / name / "model.pt", weights_only=True))
        assert len(done.parser.get_parsed_content("train#handlers")) == len(added)
    assert all(torch.equal(written[0][key], written[1][key]) for key in written[0])


@pytest.mark.slow
def test_two_processes_train_the_same_network(bundle_root, data, tmp_path):
    pack = write_pack(tmp_path / "boxes")
    spy = {
        "finalize": [
            f"$torch.save(@network_def.state_dict(), '{tmp_path}/rank' + str(dist.get_rank()) + '.pt')",
            f"$torch.save(@validate#evaluator.state.metrics, '{tmp_path}/metrics' + str(dist.get_rank()) + '.pt')",
            "$dist.destroy_process_group()",
        ],
    }
    (tmp_path / "spy.yaml").write_text(yaml.safe_dump(spy))
    configs = [*(f"configs/{name}.yaml" for name in ("train", "multi_gpu_train")), str(tmp_path / "spy.yaml")]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle"]
    line += ["run", "--config_file", str(configs), "--dataset_dir", str(write_data(tmp_path / "data", 14))]
    line += ["--organ", str(pack), "--output_dir", str(tmp_path / "out"), "--run_dir", str(tmp_path / "run")]
    line += ["--max_epochs", "2", "--val_interval", "1"]
    done = subprocess.run(line, cwd=bundle_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    states = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    first, second = (torch.load(tmp_path / f"metrics{rank}.pt", weights_only=False) for rank in (0, 1))
    assert first["val_whole_dice"] == second["val_whole_dice"]  # over the cases of both
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.pt"]


def test_same_seed_gives_same_weights(bundle_root, data, tmp_path):
    pack = write_pack(tmp_path / "boxes")
    runs = []
    for name in ("a", "b"):
        train(bundle_root, data, pack, tmp_path / name, max_epochs=1, val_interval=1)
        runs.append(torch.load(tmp_path / name / "model.pt", weights_only=True))
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])


def test_default_rates_of_training_and_fine_tuning(bundle_root, data, tmp_path):
    pack = write_pack(tmp_path / "boxes")
    torch.save(build_unet(OrganPack.load(pack)).state_dict(), pack / "model.pt")
    for finetune, rate in ((True, 3e-4), ("false", 1.5e-3)):
        workflow = parsed(bundle_root, data, pack, finetune=finetune)
        assert math.isclose(workflow.parser.get_parsed_content("optimizer").param_groups[0]["lr"], rate)


def test_augmented_images_and_labels_stay_together(bundle_root, data, tmp_path):
    """The brightest voxels of an augmented image are those of label 2, wherever it was moved."""
    pack = write_pack(tmp_path / "boxes", augment={"flip": True, "rotate_deg": 20, "scale": 0.15, "translate_mm": 3})
    workflow = parsed(bundle_root, data, pack)
    dataset = workflow.parser.get_parsed_content("train#dataset")
    dataset.transform.set_random_state(0)
    sides = set()
    for number in range(24):
        (case,) = dataset[number % len(dataset)]  # one part of each image
        image, label = np.asarray(case["image"][0]), np.asarray(case["label"][0])
        assert image.shape == label.shape == (16, 16, 16)
        assert image.dtype == np.float32
        assert set(np.unique(label)) <= {0, 1, 2}
        assert image[label == 2].mean() > image[label == 1].mean()
        core, shell = np.argwhere(label == 2).mean(0), np.argwhere(label > 0).mean(0)
        sides.add(bool(core[0] > shell[0]))
    assert sides == {True, False}


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_augmentation_can_be_weakened(bundle_root, data, tmp_path, factor):
    pack = write_pack(tmp_path / "boxes", augment={"flip": False, "rotate_deg": 20})
    workflow = parsed(bundle_root, data, pack, augmentation=factor)
    dataset = workflow.parser.get_parsed_content("train#dataset")
    dataset.transform.set_random_state(0)
    drawn = [np.asarray(dataset[0][0]["image"]) for _ in range(8)]
    assert all(np.array_equal(one, drawn[0]) for one in drawn) is (factor == 0.0)


def test_missing_data_are_said_plainly(bundle_root, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/train.yaml"]
        + ["--dataset_dir", str(tmp_path / "nowhere"), "--run_dir", str(tmp_path)],
        cwd=bundle_root,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert "must hold images/ and labels/" in run.stderr


@pytest.mark.parametrize(
    ("organ", "message", "overlays"),
    [
        ("spline", "no organ pack 'spline'", ()),
        ("spline", "no organ pack 'spline'", ("evaluate_network.yaml",)),
        ("lung_lobes", "organ 'lung_lobes' has no U-Net", ("evaluate_network.yaml",)),  # none is planned to be scored
    ],
)
def test_an_organ_without_pack_or_network_stops_with_one_line(bundle_root, data, tmp_path, overlays, organ, message):
    with pytest.raises(SystemExit, match=f"^Error: {message}"):
        train(bundle_root, data, organ, tmp_path, overlays)


def test_a_pack_without_network_gets_one_and_trains(bundle_root, data, tmp_path):
    file = write_pack(tmp_path / "pack") / "organ.yaml"
    settings = yaml.safe_load(file.read_text())
    del settings["network"], settings["patch_size"]
    file.write_text(yaml.safe_dump(settings))
    train(bundle_root, data, file.parent, tmp_path, **{"train#trainer#max_epochs": 1})
    pack = OrganPack.load(file.parent)
    assert pack.network["out_channels"] == 3
    build_unet(pack).load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))


def test_images_without_labels_are_named(bundle_root, data, tmp_path):
    extra = write_data(tmp_path / "data", 2)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), extra / "images" / "orphan.nii.gz")
    run = ConfigWorkflow(
        config_file=str(bundle_root / "configs" / "train.yaml"), workflow_type="train", dataset_dir=str(extra)
    )
    with pytest.raises(RuntimeError) as error:
        run.parser.get_parsed_content("train#dataset")
    causes = []
    cause = error.value
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__
    assert any("orphan" in text for text in causes)
