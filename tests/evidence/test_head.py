import numpy as np
import torch

from scripts.evidence.channels import CHANNELS
from scripts.evidence.head import AT_ONCE, VoxelHead, VoxelNet


def made_head() -> VoxelHead:
    torch.manual_seed(0)
    return VoxelHead({"ball": VoxelNet(8), "cube": VoxelNet(8)}, 1.5, {"seed": 0}).eval()


def test_save_and_load_give_the_same_head(tmp_path):
    head = made_head()
    head.nets[0].mean.fill_(2.0)
    head.save(tmp_path / "evidence.safetensors")
    again = VoxelHead.load(tmp_path / "evidence.safetensors")
    values = np.random.default_rng(0).normal(size=(50, len(CHANNELS))).astype(np.float32)
    for name in ("ball", "cube"):
        np.testing.assert_array_equal(again.log_odds(name, values), head.log_odds(name, values))
    assert again.structures == ["ball", "cube"] and again.step_mm == 1.5 and again.card == {"seed": 0}
    assert not again.training
    assert not np.allclose(head.log_odds("ball", values), head.log_odds("cube", values))


def test_channels_are_scaled_by_those_that_are_known():
    net = VoxelNet(8)
    values = torch.randn(1000, len(CHANNELS)) * 3.0 + 5.0
    values[::2, 1] = torch.nan
    values[:, 2] = torch.nan
    net.normalise(values)
    assert torch.allclose(net.mean[:2], torch.tensor(5.0), atol=0.5)
    assert torch.allclose(net.std[:2], torch.tensor(3.0), atol=0.4)
    assert net.std[2] == torch.inf


def test_what_never_varied_in_training_tells_nothing():
    net = VoxelNet(8).eval()
    values = torch.randn(100, len(CHANNELS))
    values[:, 1] = 0.0
    net.normalise(values)
    other = values.clone()
    other[:, 1] = 1.0
    assert torch.equal(net(values), net(other)) and net(values).isfinite().all()


def test_what_is_not_known_counts_as_the_mean():
    net = VoxelNet(8).eval()
    net.mean.fill_(4.0)
    known = torch.full((3, len(CHANNELS)), 4.0)
    unknown = known.clone()
    unknown[:, 3:9] = torch.nan
    assert torch.equal(net(known), net(unknown))


def test_parts_give_what_the_whole_gives():
    head = made_head()
    values = np.random.default_rng(1).normal(size=(AT_ONCE + 7, len(CHANNELS))).astype(np.float32)
    odds = head.log_odds("ball", values)
    np.testing.assert_allclose(odds[-9:], head.log_odds("ball", values[-9:]), rtol=1e-4, atol=1e-6)
    assert len(odds) == len(values) and len(head.log_odds("ball", values[:0])) == 0
