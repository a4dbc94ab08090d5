"""The bundle in MONAI Label: the same masks as `monai.bundle run`, voxel by voxel, and answers one can act on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
import yaml

from scripts.cases.write import write_label_map
from scripts.demo import cut_boxes
from scripts.organ.pack import OrganPack
from scripts.simulation.damage import damage
from scripts.unet.network import build_unet
from tests.helpers.chest import cut_chest
from tests.helpers.crossing import crossed, spread_over
from tests.hosts.host_venv import host_python, requirement_lines
from tests.hosts.label_server import LabelServer

pytestmark = [pytest.mark.hosts, pytest.mark.slow]
HERE = Path(__file__).parent
LEFT, RIGHT = "mni152_left", "mni152_right"
CHEST = "chest"
THORAX = "thorax_refinement"  # a copy of the bundle for that organ alone
OTHER = "other"  # an organ whose U-Net is not the one that MONAI Label has loaded


@pytest.fixture(scope="module")
def server(bundle_root, tmp_path_factory):
    requirements = requirement_lines(HERE / "monai_label.txt")
    python = host_python("monai_label", requirements, ["monailabel==0.8.5", "torchvision==0.28.0"])
    server = LabelServer(python, bundle_root, tmp_path_factory.mktemp("label"))
    cut_boxes(server.studies)
    content = (server.studies / f"{LEFT}.nii.gz").read_bytes()
    (server.studies / "truncated.nii.gz").write_bytes(content[: len(content) // 2])
    (server.studies / "text.nii.gz").write_text("this is no image")
    add_other_organ(server.bundle)
    command = [sys.executable, bundle_root / "docs" / "examples" / "label" / "organ_bundle.py"]
    subprocess.run([*command, "thorax", server.bundle.with_name(THORAX)], check=True)
    with server:
        yield server


def add_other_organ(bundle: Path) -> None:
    """Add a pack with the hippocampus's prior and a small U-Net with random weights, at 1.5 mm."""
    folder = bundle / "models" / OTHER
    shutil.copytree(bundle / "models" / "hippocampus", folder)
    network = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
    settings = yaml.safe_load((folder / "organ.yaml").read_text())
    settings |= {"name": OTHER, "default": False, "spacing_mm": [1.5, 1.5, 1.5], "network": network}
    (folder / "organ.yaml").write_text(yaml.safe_dump(settings))
    torch.manual_seed(3)
    torch.save(build_unet(OrganPack.load(folder)).state_dict(), folder / "model.pt")


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    """Return a function that runs a job of the app's bundle as a command and returns the folder of its results."""

    def command(job: str, dataset: Path, **options: object) -> Path:
        output = tmp_path_factory.mktemp(job)
        arguments = ["--config_file", f"configs/{job}.yaml", "--dataset_dir", dataset, "--output_dir", output]
        for key, value in {"device": "cpu", "html": False, **options}.items():
            arguments += [f"--{key}", value]
        done = subprocess.run(
            [sys.executable, "-m", "monai.bundle", "run", *map(str, arguments)],
            cwd=server.bundle,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return output

    return command


@pytest.fixture(scope="module")
def masks(server, run) -> Path:
    """The command's results for the left box with the paper's preset, which replaces the mask."""
    return run("inference", server.studies / f"{LEFT}.nii.gz", preset="paper")


@pytest.fixture(scope="module")
def drawing(masks, tmp_path_factory) -> Path:
    """A label as an annotator might leave it: the network's, with a chunk missing, islands and a leak."""
    source = masks / LEFT / f"{LEFT}_initial.nii.gz"
    image = nib.load(source)
    path = tmp_path_factory.mktemp("drawing") / f"{LEFT}.nii.gz"
    write_label_map(path, damage(np.asarray(image.dataobj), image.affine, seed=0), source)
    return path


def values_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def mask_of(response, tmp_path: Path, reference: Path) -> np.ndarray:
    """Return the voxels of the mask in an answer, after checking its grid and type."""
    assert response.status_code == 200, response.text
    (tmp_path / "answer.nii.gz").write_bytes(response.content)
    image = nib.load(tmp_path / "answer.nii.gz")
    np.testing.assert_allclose(image.affine, nib.load(reference).affine, atol=1e-5)
    assert image.get_data_dtype() == np.uint8
    return np.asarray(image.dataobj)


def test_clients_are_told_the_options(server):
    model = requests.get(f"{server.url}/info/", timeout=60).json()["models"][server.bundle.name]
    assert model["labels"] == {"anterior": 1, "posterior": 2}
    options = model["config"]
    assert options["organ"][0] == "hippocampus" and {OTHER, "thorax"} <= set(options["organ"])
    assert "kidneys (current label)" in options["organ"] and "kidneys" not in options["organ"]  # it has no U-Net
    assert options["preset"][0] == "default" and {"linear", "paper"} <= set(options["preset"])
    assert (options["refine"], options["current_label"], options["sparse"]) == (True, False, False)


def test_requests_in_a_row_give_the_masks_of_the_command(server, masks, tmp_path):
    source = server.studies / f"{LEFT}.nii.gz"
    initial, refined = (values_of(masks / LEFT / f"{LEFT}_{stage}.nii.gz") for stage in ("initial", "refined"))
    assert (initial != refined).sum() > 100
    np.testing.assert_array_equal(mask_of(server.infer(LEFT, preset="paper"), tmp_path, source), refined)
    np.testing.assert_array_equal(mask_of(server.infer(LEFT, refine=False), tmp_path, source), initial)


def test_answer_says_what_was_changed(server, drawing):
    answer = server.infer(LEFT, "json", drawing, current_label=True)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["status"], result["organ"], result["preset"]) == ("refined", "hippocampus", "default")
    assert result["labels"] == {"anterior": 1, "posterior": 2} and result["changed_voxels"] > 100
    structure = result["structures"][0]
    assert structure["name"] == "hippocampus" and structure["failure"] == ""
    quality = structure["quality"]
    assert quality["added_ml"] > 0 and quality["removed_ml"] > 0 and quality["regions"]
    assert 0 < sum(structure["seconds"].values()) < 300
    alone = server.infer(LEFT, "json", refine="false").json()
    assert alone["status"] == "segmented" and alone["structures"] == []


def test_current_label_is_refined_as_by_the_command(server, run, drawing, tmp_path):
    options = {"image_dir": server.studies / f"{LEFT}.nii.gz", "preset": "linear", "second_reader": False}
    output = run("refine", drawing, **options)
    expected = values_of(output / LEFT / f"{LEFT}_refined.nii.gz")
    assert (expected != values_of(drawing)).sum() > 100
    sent = server.infer(LEFT, label=drawing, current_label=True, preset="linear")
    np.testing.assert_array_equal(mask_of(sent, tmp_path, drawing), expected)
    missing = server.infer(LEFT, current_label=True)
    assert missing.status_code == 422 and "submit one" in missing.json()["detail"]
    server.submit(LEFT, drawing)
    stored = server.infer(LEFT, current_label=True, preset="linear")
    np.testing.assert_array_equal(mask_of(stored, tmp_path, drawing), expected)


def test_another_organ_is_segmented_by_its_own_network(server, run, tmp_path):
    source = server.studies / f"{RIGHT}.nii.gz"
    output = run("inference", source, organ=OTHER, refine=False)
    expected = values_of(output / RIGHT / f"{RIGHT}_initial.nii.gz")
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(mask_of(server.infer(RIGHT, organ=OTHER, refine=False), tmp_path, source), expected)
    first = mask_of(server.infer(RIGHT, refine=False), tmp_path, source)
    assert (first != expected).any()  # and the default organ's network is back


def test_copy_for_one_organ_serves_its_label_names_and_the_same_masks(server, tmp_path):
    names = {"oesophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}
    model = requests.get(f"{server.url}/info/", timeout=60).json()["models"][THORAX]
    assert model["labels"] == names and model["config"]["organ"] == ["thorax"]
    assert server.infer(LEFT, "json", model=THORAX, refine=False).json()["label_names"] == names
    source = server.studies / f"{LEFT}.nii.gz"
    own, shared = (
        mask_of(server.infer(LEFT, model=model, organ="thorax", refine=False), tmp_path, source)
        for model in (THORAX, server.bundle.name)
    )
    assert own.any()
    np.testing.assert_array_equal(own, shared)


@pytest.fixture(scope="module")
def chest(server, shared_data, tmp_path_factory) -> tuple[Path, Path]:
    """Some slices of a real CT, uploaded as a client does, and another model's mask of them; their files."""
    image, mask = cut_chest(shared_data / "thorax", tmp_path_factory.mktemp("chest"))
    server.upload(CHEST, image)
    return image, mask


def test_ct_is_segmented_and_refined_as_by_the_command(server, run, chest, tmp_path):
    image, _ = chest
    output = run("inference", image, organ="thorax", preset="linear") / CHEST
    initial, refined = (values_of(output / f"{CHEST}_{stage}.nii.gz") for stage in ("initial", "refined"))
    assert set(np.unique(initial)) == {0, 1, 2, 3, 4} and (initial != refined).sum() > 10
    answer = server.infer(CHEST, organ="thorax", refine=False)
    np.testing.assert_array_equal(mask_of(answer, tmp_path, image), initial)
    answer = server.infer(CHEST, organ="thorax", preset="linear")
    np.testing.assert_array_equal(mask_of(answer, tmp_path, image), refined)


def test_label_of_ct_is_refined_as_by_the_command(server, run, chest, tmp_path):
    image, mask = chest
    options = {"organ": "thorax", "image_dir": image, "preset": "linear", "second_reader": False}
    output = run("refine", mask, **options) / CHEST
    expected = values_of(output / f"{CHEST}_refined.nii.gz")
    assert (expected != values_of(mask)).sum() > 100
    answer = server.infer(CHEST, label=mask, organ="thorax", current_label=True, preset="linear")
    np.testing.assert_array_equal(mask_of(answer, tmp_path, mask), expected)


@pytest.mark.parametrize(
    ("image", "params", "message"),
    [
        (LEFT, {"organ": "spleen"}, "no organ pack 'spleen'"),
        (LEFT, {"preset": "best"}, "unknown preset 'best'; choose one of default"),
        (LEFT, {"refine": "perhaps"}, "neither true nor false"),
        ("truncated", {}, "truncated.nii.gz cannot be read"),
        ("text", {}, "text.nii.gz cannot be read as NIfTI"),
        ("unknown", {}, "does not exist"),
    ],
)
def test_bad_request_is_refused_plainly(server, image, params, message):
    answer = server.infer(image, **params)
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["detail"]


@pytest.mark.parametrize("option", ["organ", "preset", "refine", "current_label", "device"])
def test_value_of_an_option_is_never_run(server, tmp_path, option):
    ran = tmp_path / "ran"
    run = f"$__import__('pathlib').Path('{ran}').touch()"
    build = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [str(ran)]}}
    for value in (run, [run], *([] if option == "device" else [build])):  # the server itself fails with such a device
        answer = server.infer(LEFT, **{option: value})
        assert answer.status_code == 422 and answer.json()["detail"].startswith(f"{option}: "), answer.text
        assert not ran.exists()


@pytest.mark.parametrize("label", ["/etc/passwd", "../outside.nii.gz"])
def test_label_is_no_file_of_the_server(server, label):
    answer = server.infer(LEFT, label=label, current_label=True)
    assert answer.status_code == 422 and answer.json()["detail"].startswith("label: "), answer.text


def test_few_drawn_slices_become_a_whole_organ_as_by_the_command(server, run, masks, tmp_path):
    source = masks / LEFT / f"{LEFT}_initial.nii.gz"
    whole = values_of(source)
    (tmp_path / "few").mkdir()
    few = tmp_path / "few" / f"{LEFT}.nii.gz"
    write_label_map(few, crossed(whole, spread_over(whole, {0: 1, 1: 4})), source)
    expected = values_of(run("refine", few, sparse=True, preset="linear") / LEFT / f"{LEFT}_refined.nii.gz")
    assert (expected > 0).sum() > 3 * (values_of(few) > 0).sum()
    answer = server.infer(LEFT, label=few, sparse=True, preset="linear")
    np.testing.assert_array_equal(mask_of(answer, tmp_path, few), expected)
    refused = server.infer(LEFT, label=source, sparse=True)
    assert refused.status_code == 422 and "nothing to fill in" in refused.json()["detail"]


def test_organ_without_network_is_refused_but_refines_labels(server, drawing):
    answer = server.infer(RIGHT, organ="kidneys (current label)")  # as the menu names it
    assert answer.status_code == 422 and "there is no current label" in answer.json()["detail"]
    weights = server.bundle / "models" / OTHER / "model.pt"
    weights.rename(weights.with_suffix(".aside"))
    try:
        answer = server.infer(LEFT, organ=OTHER)
        assert answer.status_code == 422 and "organ 'other' has no U-Net" in answer.json()["detail"]
        answer = server.infer(LEFT, "json", drawing, organ=OTHER, current_label=True, preset="linear")
        assert answer.status_code == 200 and answer.json()["status"] == "refined"
    finally:
        weights.with_suffix(".aside").rename(weights)


def test_label_that_cannot_be_refined_is_refused(server, drawing, tmp_path):
    empty = tmp_path / "empty.nii.gz"
    write_label_map(empty, np.zeros_like(values_of(drawing)), drawing)
    answer = server.infer(LEFT, label=empty, current_label=True)
    assert answer.status_code == 422 and "the mask is empty" in answer.json()["detail"]
    answer = server.infer(RIGHT, label=drawing, current_label=True)
    assert answer.status_code == 422 and "not on the grid of" in answer.json()["detail"]


def test_training_replaces_the_weights_that_then_segment(server, run, masks, tmp_path):
    """Runs last, since it changes the app's copy of models/model.pt."""
    weights = server.bundle / "models" / "model.pt"
    before = torch.load(weights, weights_only=True)
    source = server.studies / f"{RIGHT}.nii.gz"
    first = server.infer(RIGHT, refine=False)
    (tmp_path / f"{RIGHT}.nii.gz").write_bytes(first.content)
    server.submit(LEFT, masks / LEFT / f"{LEFT}_initial.nii.gz")
    server.submit(RIGHT, tmp_path / f"{RIGHT}.nii.gz")
    answer = server.train(max_epochs=2, val_split=0.5, pretrained=True)
    assert answer.status_code == 200, answer.text
    after = torch.load(weights, weights_only=True)
    assert after.keys() == before.keys() and any(not torch.equal(after[key], before[key]) for key in after)
    expected = values_of(run("inference", source, refine=False) / RIGHT / f"{RIGHT}_initial.nii.gz")
    np.testing.assert_array_equal(mask_of(server.infer(RIGHT, refine=False), tmp_path, source), expected)
    assert "Traceback" not in server.log.read_text()
    assert json.loads((server.studies / "datastore_v2.json").read_text())["objects"].keys() >= {LEFT, RIGHT}
