"""configs/train.yaml trains the paper's networks by name, and configs/inference.yaml segments with them."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.metrics import compute_dice

from scripts.organ.pack import OrganError, OrganPack
from scripts.peers.networks import PEERS, build_network, start_network
from scripts.run.errors import plain_text_of
from scripts.run.jobs import run_job
from scripts.unet.network import network_file
from tests.helpers.blobs import NETWORK
from tests.helpers.small_pack import write_pack
from tests.helpers.small_training import train, training

EPOCHS = {"unet": 2, "double_unet": 3, "scan": 2, "ictnet": 6, "implicit_unet": 3, "nudf": 3, "iosnet": 2}
CASES = 20
UNSEEN = "box_17"  # with the last two it validates
PLAIN = {"flip": False, "rotate_deg": 0, "scale": 0, "translate_mm": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two boxes side by side, the second brighter, each case's at another place and in noise."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(CASES):
        rng = np.random.default_rng(number)
        labels = np.zeros((16, 16, 16), np.uint8)
        labels[:10, :10, :10] = 1 + (np.arange(10) >= 5)[:, None, None]
        labels = np.roll(labels, rng.integers(0, 7, 3), (0, 1, 2))
        image = (labels + rng.normal(0, 0.2, labels.shape)).astype(np.float32)
        for part, values in (("images", image), ("labels", labels)):
            (folder / part).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / part / f"box_{number:02d}.nii.gz")
    return folder


@pytest.fixture
def pack(tmp_path):
    patches = {"train": [16, 16, 16], "infer": [8, 8, 8]}
    return write_pack(tmp_path / "boxes", network=NETWORK | {"out_channels": 3}, patch_size=patches, augment=PLAIN)


def parts_of(file) -> torch.Tensor:
    """The organ, label 1 and label 2 of a label map without others: (3, X, Y, Z), bool."""
    labels = torch.as_tensor(np.asarray(nib.load(file).dataobj)).long()
    assert set(labels.unique().tolist()) == {0, 1, 2}
    return torch.stack([labels > 0, labels == 1, labels == 2])


def dice(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Of each part."""
    return compute_dice(found[None], true[None])[0]


def segment(data, pack, output, network, **options):
    run_job("inference", dataset_dir=str(data / "images" / f"{UNSEEN}.nii.gz"), output_dir=str(output), organ=str(pack),
            network_name=network, refine=False, html=False, workers=1, device="cpu", **options)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_network_learns_and_segments_with_its_weights(bundle_root, data, pack, tmp_path, name):
    """In the whole and in both labels better than any mask that is the same for all images."""
    epochs = EPOCHS[name]
    options = {
        "max_epochs": epochs,
        "val_interval": epochs,
        "batch_size": 1,
        "augmentation": 0.0,
        "learning_rate": 3e-3,
    }
    train(bundle_root, data, pack, pack, network_name=name, **options)
    assert [file.name for file in pack.glob("*.pt")] == [f"model_{name}.pt"]
    segment(data, pack, tmp_path / "out", name)
    found = parts_of(tmp_path / "out" / UNSEEN / f"{UNSEEN}_initial.nii.gz")
    true = parts_of(data / "labels" / f"{UNSEEN}.nii.gz")
    share = torch.stack([parts_of(file) for file in (data / "labels").iterdir()]).float().mean(0)
    same = torch.stack([dice(share >= least, true) for least in torch.linspace(0.0, 1.0, CASES + 1)]).amax(0)
    print(name, dice(found, true), same)
    assert (same > 0.5).all() and (dice(found, true) > same + 0.1).all()


def test_a_stopped_training_goes_on_as_if_nothing_had_been(bundle_root, data, pack, tmp_path):
    """SCAN's critic comes in after a share of the whole training, not of what is left of it."""
    options = {"network_name": "scan", "max_epochs": 4, "val_interval": 2, "batch_size": CASES, "augmentation": 0.0}
    options["train#dataloader#shuffle"] = False
    train(bundle_root, data, pack, tmp_path / "whole", **options)
    stopped = training(bundle_root, data, pack, tmp_path / "parts", **options)
    trainer = stopped.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), trainer.terminate)
    stopped.run()
    stopped.finalize()
    (checkpoint,) = (tmp_path / "parts" / "logs").glob("*.pt")
    train(bundle_root, data, pack, tmp_path / "again", resume=str(checkpoint), **options)
    parts, whole, again = (
        torch.load(file, weights_only=True)
        for file in (checkpoint, *(tmp_path / run / "logs" / "checkpoint.pt" for run in ("whole", "again")))
    )
    assert (parts["trainer"]["iteration"], whole["trainer"]["iteration"]) == (2, 4)
    for part in ("network", "average"):
        assert all(torch.equal(again[part][key], value) for key, value in whole[part].items())
        critic = {key: value for key, value in whole[part].items() if key.startswith("critic")}
        assert any(not torch.equal(parts[part][key], value) for key, value in critic.items())


@pytest.mark.slow
def test_processes_train_a_network_of_which_a_part_waits(bundle_root, data, pack, tmp_path):
    """One process is enough: torch refuses that, too, where weights without a gradient are not expected."""
    options = {"network_name": "scan", "max_epochs": 4, "batch_size": CASES, "dataset_dir": data, "organ": pack}
    options |= {"output_dir": tmp_path, "run_dir": tmp_path / "run", "device": "$torch.device('cpu')"}
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
    line += ["['configs/train.yaml','configs/multi_gpu_train.yaml']"]
    line += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    alone = {"MASTER_ADDR": "localhost", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    done = subprocess.run(line, cwd=bundle_root, env=os.environ | alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] == 4
    assert (tmp_path / "model_scan.pt").is_file()


def test_an_empty_name_means_the_pack_s_own_network(bundle_root, data, pack, tmp_path):
    written = []
    for name, options in (("without", {}), ("empty", {"network_name": ""}), ("null", {"network_name": None})):
        train(bundle_root, data, pack, tmp_path / name, max_epochs=1, **options)
        written.append(torch.load(tmp_path / name / "model.pt", weights_only=True))
    for other in written[1:]:
        assert all(torch.equal(other[key], value) for key, value in written[0].items())


@pytest.mark.parametrize("overlays", [(), ("multi_gpu_train.yaml",), ("evaluate_network.yaml",), None])
def test_a_name_of_no_network_is_refused_with_those_there_are(bundle_root, data, pack, tmp_path, overlays):
    with pytest.raises(SystemExit, match=f"^Error: --network_name must be one of {', '.join(PEERS)}, not 'vnet'$"):
        if overlays is None:
            segment(data, pack, tmp_path, "vnet")
        else:
            training(bundle_root, data, pack, tmp_path, overlays, network_name="vnet")


def test_weights_that_are_not_there_are_named_with_the_command_that_trains_them(data, pack, tmp_path):
    said = r"has no scan, .*model_scan.pt is missing: train it .shape-refine train --organ \S+ --network_name scan,"
    with pytest.raises(SystemExit, match=said):
        segment(data, pack, tmp_path, "scan")
    with pytest.raises(SystemExit, match="organ 'hippocampus' has no scan, .*models/model_scan.pt is missing"):
        segment(data, "hippocampus", tmp_path, "scan")


def test_weights_of_another_network_are_refused(data, pack, tmp_path):
    torch.save(build_network(OrganPack.load(pack), "scan").state_dict(), pack / "model_iosnet.pt")
    with pytest.raises(RuntimeError) as error:
        segment(data, pack, tmp_path, "iosnet")
    assert "model_iosnet.pt does not hold the weights of the iosnet" in plain_text_of(error.value)


def test_newer_weights_are_used_again(data, pack, tmp_path):
    """The report says which network made the masks; other weights, or another network, make them anew."""
    loaded, times = OrganPack.load(pack), []
    for name, seed in (("iosnet", 0), ("iosnet", 0), ("iosnet", 1), ("unet", 1)):
        torch.manual_seed(seed)
        torch.save(build_network(loaded, name).state_dict(), network_file(loaded, name))
        segment(data, pack, tmp_path / "out", name)
        assert json.loads((tmp_path / "out" / "report.json").read_text())["settings"]["network_name"] == name
        times.append((tmp_path / "out" / UNSEEN / f"{UNSEEN}_initial.nii.gz").stat().st_mtime_ns)
    assert times[0] == times[1] < times[2] < times[3]


def test_a_network_starts_from_the_same_one_of_another_organ(pack, tmp_path):
    loaded = OrganPack.load(pack)
    other = write_pack(tmp_path / "other", network=NETWORK, patch_size=vars(loaded.patch_size), labels={1: "all"},
                       structures=[{"name": "all", "labels": [1]}])  # fmt: skip
    theirs = build_network(OrganPack.load(other), "iosnet").state_dict()
    with pytest.raises(OrganError, match="this organ has no trained iosnet: there is no .*model_iosnet.pt"):
        start_network(loaded, other, "iosnet")
    torch.save(theirs, network_file(OrganPack.load(other), "iosnet"))
    own = start_network(loaded, other, "iosnet").state_dict()
    fresh = [key for key, value in own.items() if not torch.equal(value, theirs[key])]
    assert fresh == ["perceptron.4.weight", "perceptron.4.bias"]


def test_windows_that_cannot_be_halved_are_refused(tmp_path):
    pack = OrganPack.load(write_pack(tmp_path / "boxes", patch_size={"train": [16, 20, 16]}))
    with pytest.raises(OrganError, match="organ.yaml: patch_size: train: nudf needs multiples of 8, not .16, 20, 16.:"):
        build_network(pack, "nudf")
