"""Each network of the comparison learns to find ellipsoids in noise, by the one trainer."""

import math

import pytest
import torch
from torch.fx.experimental import _config

from scripts.organ.pack import OrganPack
from scripts.peers.data import Batches, task_of
from scripts.peers.networks import PEERS, check_network, choose_networks
from scripts.peers.training import Budget, train, validation_dice
from scripts.unet.network import FlipAveragingInferer
from tests.helpers.blobs import blob_pack, blob_task, blobs

CPU = torch.device("cpu")
STEPS = {"unet": 80, "double_unet": 20, "scan": 80, "ictnet": 100, "implicit_unet": 20, "nudf": 50, "iosnet": 20}


@pytest.mark.parametrize("name", PEERS)
def test_a_network_learns(name, tmp_path):
    torch.manual_seed(0)
    peer = PEERS[name](blob_task())
    unseen = blobs(3, seed=1)
    before = validation_dice(peer, unseen, CPU)
    batches = Batches(blob_pack(), peer.task, blobs(8, seed=0), seed=0)
    done = train(peer, batches, unseen, tmp_path, Budget(STEPS[name]), {}, CPU)
    print(name, before, done["validation_dice"], done["seconds"])
    assert before < 50.0
    assert done["validation_dice"] > 80.0
    assert done["validation_dice"] == validation_dice(peer, unseen, CPU)


@pytest.mark.parametrize("name", PEERS)
def test_scores_have_the_classes_of_the_task_on_the_image_s_grid(name):
    peer = PEERS[name](blob_task()).eval()
    with torch.no_grad():
        scores = peer.predict(torch.randn(2, 1, 24, 24, 24))
    assert scores.shape == (2, 2, 24, 24, 24) and torch.isfinite(scores).all()


@pytest.mark.parametrize("name", PEERS)
def test_of_an_image_smaller_than_the_block_a_whole_block_is_seen(name):
    seen = FlipAveragingInferer((24, 24, 24), exact=True)
    with torch.no_grad():
        assert seen(torch.randn(1, 1, 17, 24, 9), PEERS[name](blob_task()).eval()).shape == (1, 2, 17, 24, 9)


@pytest.mark.parametrize("name", [name for name in PEERS if name != "nudf"])  # which measures distances on the CPU
def test_training_stays_on_the_device_of_its_batches(name):
    """As on a GPU, a tensor that lies elsewhere is refused among those of the device `meta`, which have no values."""
    task = blob_task()
    (case,) = Batches(blob_pack(), task, blobs(1, seed=0), 0, "meta").cases
    with _config.patch(meta_nonzero_assume_all_nonzero=True):  # some ask where the surface is
        loss = PEERS[name](task).to("meta")(case["image"][None], case["label"][None], 0.9)
    loss.backward()
    assert loss.device.type == "meta"


def test_blocks_fit_a_unet_of_five_levels():
    pack = OrganPack.load("brain")
    task = task_of(pack, blobs(2, seed=0))
    assert task.block == (32, 32, 32) and task_of(blob_pack(), blobs(2, seed=0)).block == (24, 24, 24)
    with torch.no_grad():
        assert PEERS["unet"](task).eval().predict(torch.zeros(1, 1, *task.block)).shape == (1, 15, *task.block)


def test_networks_are_chosen_by_name():
    assert choose_networks("all") == list(PEERS)
    assert choose_networks("iosnet, unet") == ["unet", "iosnet"]
    with pytest.raises(ValueError, match="'unett': give all, or some of unet, double_unet"):
        choose_networks("unett")


@pytest.mark.parametrize("value", ["x", "UNet", "unet,scan", -1, 0, False, math.nan, [[]], {"a": "b"}])
def test_what_names_no_network_is_refused_in_a_line(value):
    for known in ("", None, *PEERS):
        check_network(known)
    with pytest.raises(SystemExit, match="^Error: --network_name must be one of unet, double_unet") as refused:
        check_network(value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
