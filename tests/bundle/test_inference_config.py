"""configs/inference.yaml: the U-Net part, from images of any grid back to that grid."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, create_workflow, verify_net_in_out
from monai.data import MetaTensor, decollate_batch, list_data_collate

from scripts.organ.pack import MODELS, OrganError, OrganPack
from scripts.refine.transforms import TIMSampled
from scripts.unet.images import OwnSpacingd
from scripts.unet.network import FlipAveragingInferer, build_unet, network_file, steps_of
from tests.helpers.small_pack import BRIGHTNESS_NET, brightness_weights, nested_boxes, write_pack

TURN = np.array([[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, 1]])
AFFINES = {
    "straight": np.diag([1.0, 1.0, 1.0]),
    "flipped and permuted": np.array([[0, 0, -1.0], [1.0, 0, 0], [0, -1.0, 0]]),
    "anisotropic": np.diag([-0.8, 1.3, 2.0]),
    "oblique": TURN @ np.diag([1.2, 0.9, 1.5]),
}


def affine_of(matrix: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = (-11.0, 7.5, 40.0)
    return affine


def inference(bundle_root: Path, images: Path, output: Path, pack: Path, **options) -> ConfigWorkflow:
    """Make the workflow of the U-Net alone."""
    return ConfigWorkflow(
        config_file=str(bundle_root / "configs" / "inference.yaml"),
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        workflow_type="infer",
        bundle_root=str(bundle_root),
        dataset_dir=str(images),
        output_dir=str(output),
        organ=str(pack),
        refine=False,
        device="$torch.device('cpu')",
        **options,
    )


@pytest.fixture
def brightness_pack(tmp_path):
    pack = write_pack(tmp_path / "boxes")
    torch.save(brightness_weights(), pack / "model.pt")
    return pack


def test_properties_are_complete(bundle_root):
    workflow = create_workflow(
        config_file=str(bundle_root / "configs" / "inference.yaml"),
        workflow_type="infer",
        bundle_root=str(bundle_root),
    )
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", AFFINES)
def test_labels_and_probabilities_come_back_to_the_image_grid(bundle_root, brightness_pack, tmp_path, name):
    labels, affine = nested_boxes((20, 19, 17)), affine_of(AFFINES[name])
    (tmp_path / "images").mkdir()
    nib.save(nib.Nifti1Image(labels.astype(np.float32), affine), tmp_path / "images" / "a.nii.gz")
    workflow = inference(
        bundle_root, tmp_path / "images", tmp_path / "out", brightness_pack, network_def=BRIGHTNESS_NET
    )
    workflow.initialize()
    workflow.run()
    case = workflow.parser.get_parsed_content("evaluator").state.output[0]
    pred, prob = case["pred"], case["prob"]
    assert tuple(pred.shape) == (1, *labels.shape)
    assert tuple(prob.shape) == (3, *labels.shape)
    np.testing.assert_allclose(pred.affine, affine, atol=1e-5)
    np.testing.assert_allclose(prob.affine, affine, atol=1e-5)
    np.testing.assert_allclose(prob.sum(0), 1, atol=1e-4)
    np.testing.assert_array_equal(pred[0], prob.argmax(0))

    written = nib.load(tmp_path / "out" / "a" / "a_initial.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    values = np.asarray(written.dataobj)
    np.testing.assert_array_equal(values, np.asarray(pred[0]))
    if np.allclose(np.abs(AFFINES[name]).sum(0), 1):  # unit voxels along the world's axes: nothing is interpolated
        np.testing.assert_array_equal(values, labels)
    for part in (values > 0, labels > 0), (values == 2, labels == 2):
        assert 2 * (part[0] & part[1]).sum() / (part[0].sum() + part[1].sum()) > 0.85
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [c["status"] for c in report["cases"]] == ["segmented"]


@pytest.mark.parametrize(
    ("organ", "wanted", "sees"), [("thorax", "true", True), ("thorax", "false", False), ("hippocampus", "true", True)]
)
def test_a_voxel_head_sees_the_image_as_it_is(bundle_root, tmp_path, organ, wanted, sees):
    """The U-Net's copy is resampled and scaled; the other one is kept only for packs that have a voxel head."""
    values = np.random.default_rng(0).integers(0, 250, (12, 12, 12)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine_of(AFFINES["anisotropic"])), tmp_path / "a.nii.gz")
    workflow = inference(bundle_root, tmp_path / "a.nii.gz", tmp_path / "out", organ, image_evidence=wanted)
    workflow.parser["refine"] = True
    workflow.initialize()
    case = workflow.parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "a.nii.gz")})
    assert ("seen" in case) is sees
    chain = workflow.parser.get_parsed_content("postprocessing").transforms
    (reader,) = [step for step in chain if isinstance(step, TIMSampled)]
    assert (reader.image_key in case) is sees
    assert case["image"].shape[1:] != values.shape
    if sees:
        np.testing.assert_array_equal(case["seen"][0], values)
        np.testing.assert_allclose(case["seen"].affine, affine_of(AFFINES["anisotropic"]), atol=1e-5)


def test_a_head_where_a_box_is_expected_is_named(bundle_root, tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 20, 20))
    nib.save(nib.Nifti1Image(values, np.diag([5.0, 5.0, 5.0, 1.0])), tmp_path / "a.nii.gz")
    workflow = inference(bundle_root, tmp_path / "a.nii.gz", tmp_path / "out", "hippocampus")
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    (case,) = json.loads((tmp_path / "out" / "report.json").read_text())["cases"]
    assert "the image is 100 × 100 × 100 mm large" in case["warnings"][0]
    assert "about 35 × 50 × 36 mm" in case["warnings"][0]


def test_a_loader_s_batch_is_the_cases_again(bundle_root, brightness_pack, tmp_path):
    """Hosts may collate what comes of `preprocessing`, here a head and a box, and take it apart again."""
    with (brightness_pack / "organ.yaml").open("a") as file:
        file.write("image_mm: [16, 16, 16]\n")
    for name, edge_mm in {"head": 4.0, "box": 1.0}.items():
        nib.save(
            nib.Nifti1Image(nested_boxes((16, 16, 16)), np.diag([*[edge_mm] * 3, 1.0])), tmp_path / f"{name}.nii.gz"
        )
    workflow = inference(bundle_root, tmp_path / "box.nii.gz", tmp_path / "out", brightness_pack)
    workflow.initialize()
    preprocessing, postprocessing = map(workflow.parser.get_parsed_content, ("preprocessing", "postprocessing"))
    cases = [preprocessing({"image": str(tmp_path / f"{name}.nii.gz")}) for name in ("head", "box")]
    alone = decollate_batch(list_data_collate([cases[1]]))[0]
    logits = torch.nn.functional.one_hot(alone["image"][0].long() * 0, 3).movedim(-1, 0).float()
    assert postprocessing({**alone, "pred": MetaTensor(logits)})["result"]["warnings"] == ["the mask is empty"]
    for case in cases:
        case["image"] = case["image"][:, :16, :16, :16]
    head, box = decollate_batch(list_data_collate(cases))
    assert "64 × 64 × 64 mm" in head["image_said"] and box["image_said"] == ""


@pytest.mark.parametrize("config, steps", [("inference", "network_inferer#steps"), ("train", "validate#inferer#steps")])
def test_the_windows_of_the_pack_s_own_u_net_alone_fit_the_image(bundle_root, config, steps):
    """A network of the comparison may know its block only."""
    parser = ConfigParser()
    parser.read_config(str(bundle_root / "configs" / f"{config}.yaml"))
    found = {}
    for network in ("", "ictnet"):
        parser.update({"bundle_root": str(bundle_root), "organ": "hippocampus", "network_name": network})
        parser.parse(reset=True)
        found[network] = parser.get_parsed_content(steps)
    assert found == {"": steps_of(OrganPack.load("hippocampus").network), "ictnet": None}


def test_flip_averaging_makes_the_output_symmetric():
    image = torch.arange(4.0 * 4 * 4).reshape(1, 1, 4, 4, 4)
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1, 1)

    def network(x):
        return x + ramp

    plain = FlipAveragingInferer((4, 4, 4))(image, network)
    averaged = FlipAveragingInferer((4, 4, 4), flip_axes=[0])(image, network, seen=image)  # as the Deploy SDK calls it
    torch.testing.assert_close(plain, image + ramp)
    torch.testing.assert_close(averaged, image + 1.5)  # the mean of the ramp and its mirror image


def test_entries_beside_the_image_survive_resampling():
    image = torch.ones(1, 4, 4, 4)
    done = OwnSpacingd("image", pixdim=(2.0, 2.0, 2.0))({"image": image, "image_path": "a.nii.gz", "other": 3})
    assert (done["image_path"], done["other"]) == ("a.nii.gz", 3)
    assert done["image"].shape[1] < 4


def test_weights_lie_where_hosts_look(tmp_path):
    assert network_file(OrganPack.load("hippocampus")) == str(MODELS / "model.pt")
    copy = shutil.copytree(MODELS / "hippocampus", tmp_path / "hippocampus")  # its training must not touch the bundle's
    assert network_file(OrganPack.load(copy)) == str(copy / "model.pt")
    pack = write_pack(tmp_path / "boxes")
    assert network_file(OrganPack.load(pack)) == str(pack / "model.pt")


def test_packs_without_fitting_network_are_refused(tmp_path):
    with pytest.raises(OrganError, match="has no U-Net"):
        build_unet(OrganPack.load(write_pack(tmp_path / "none", network={})))
    labels = {1: "a", 3: "b"}
    structures = [{"name": "boxes", "labels": [1, 3]}]
    with pytest.raises(OrganError, match="needs the labels 1 to 2"):
        build_unet(OrganPack.load(write_pack(tmp_path / "gap", labels=labels, structures=structures)))


@pytest.mark.slow
def test_network_takes_and_gives_what_the_metadata_say(bundle_root):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        config_file=str(bundle_root / "configs" / "inference.yaml"),
        device="cpu",
    )


@pytest.mark.slow
def test_packaged_weights_export_to_torchscript(bundle_root, tmp_path):
    checkpoint = Path(network_file(OrganPack.load("hippocampus")))
    network = build_unet(OrganPack.load("hippocampus")).eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(checkpoint),
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        config_file=[str(bundle_root / "configs" / "inference.yaml")],
        key_in_ckpt="",
        use_trace=True,
        input_shape=(1, 1, 24, 32, 24),
    )
    extra = {"metadata.json": ""}
    exported = torch.jit.load(tmp_path / "model.ts", _extra_files=extra).eval()
    assert json.loads(extra["metadata.json"])["network_data_format"]["outputs"]["pred"]["num_channels"] == 3
    image = torch.randn(1, 1, 32, 40, 24)
    with torch.inference_mode():
        torch.testing.assert_close(exported(image), network(image), rtol=1e-3, atol=1e-3)
