"""The trainer: budgets, and runs that go on where they were stopped."""

import math

import pytest
import torch

from scripts.peers import training
from scripts.peers.data import Batches
from scripts.peers.networks import PEERS
from scripts.peers.training import Budget, load_finished, train
from tests.helpers.blobs import blob_pack, blob_task, blobs

CPU, SIX = torch.device("cpu"), Budget(steps=6)


def start(folder, budget=SIX, made_of=None, stop_at=math.inf, name="unet"):
    """Train a network on blobs; the batch after `stop_at` ends it like a killed process."""
    torch.manual_seed(0)
    peer = PEERS[name](blob_task())
    batches = Batches(blob_pack(), peer.task, blobs(3, seed=0), seed=0)
    draw = batches.draw

    def stopped(step):
        if step >= stop_at:
            raise KeyboardInterrupt
        return draw(step)

    batches.draw = stopped
    return peer, train(peer, batches, blobs(1, seed=1), folder, budget, made_of or {"seed": 0}, CPU)


@pytest.mark.parametrize("name", ["unet", "scan", "iosnet"])  # iosnet draws points, scan begins another part
def test_a_stopped_training_goes_on_as_if_nothing_had_been(name, tmp_path, monkeypatch):
    whole, _ = start(tmp_path / "whole", name=name)
    monkeypatch.setattr(training, "SAVED_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "parts", stop_at=4, name=name)
    assert load_finished(whole, tmp_path / "parts" / "checkpoint.pt", {"seed": 0}) is None
    again, done = start(tmp_path / "parts", name=name)
    assert done["step"] == 6
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_finished_training_is_not_done_again(tmp_path):
    trained, _ = start(tmp_path)
    start(tmp_path, stop_at=0)  # no batch is drawn
    other = PEERS["unet"](blob_task())
    assert load_finished(other, tmp_path / "checkpoint.pt", {"seed": 0})["step"] == 6
    for one, loaded in zip(trained.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, loaded)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    start(tmp_path, Budget(steps=1))
    with pytest.raises(ValueError, match="checkpoint.pt was made with another seed: remove it, or give another"):
        start(tmp_path, made_of={"seed": 1})
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="checkpoint.pt is no checkpoint of this comparison: remove it"):
        start(tmp_path)


def test_a_budget_ends_with_what_is_used_up_first(tmp_path):
    assert Budget(steps=10).progress(5, 1e9) == 0.5
    assert Budget(seconds=10.0).progress(10**9, 2.5) == 0.25
    assert Budget(steps=10, seconds=10.0).progress(9, 20.0) == 1.0
    for wrong in ({}, {"steps": -1}, {"seconds": -1.0, "steps": 5}):
        with pytest.raises(ValueError, match="must be positive: give --minutes, --steps or both"):
            Budget(**wrong)
    _, done = start(tmp_path, Budget(steps=10**6, seconds=1.0))
    assert 0 < done["step"] < 1000 and done["seconds"] >= 1.0


def test_a_loss_that_is_no_longer_finite_stops_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(PEERS["unet"], "loss", lambda self, *_: sum(p.sum() for p in self.parameters()) * math.nan)
    with pytest.raises(FloatingPointError, match="^unet, batch 0: the gradient is not finite"):
        start(tmp_path / "unet")
