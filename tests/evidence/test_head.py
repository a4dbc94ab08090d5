import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from scripts.evidence.channels import CHANNELS
from scripts.evidence.head import AT_ONCE, VoxelHead, VoxelNet, exactly
from scripts.evidence.neighbourhood import DILATIONS, in_one_volume

REACH = sum(DILATIONS)


def made_head(context: int = 0) -> VoxelHead:
    torch.manual_seed(0)
    return VoxelHead({"ball": VoxelNet(8, context), "cube": VoxelNet(8, context)}, 1.5, {"seed": 0}).eval()


def block(side: int = 18, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Channels (N, C) and places (N, 3) of the voxels of a cube."""
    at = np.argwhere(np.ones((side, side, side), bool))
    return np.random.default_rng(seed).normal(size=(len(at), len(CHANNELS))).astype(np.float32), at


@pytest.mark.parametrize("context", [0, 4])
def test_save_and_load_give_the_same_head(tmp_path, context):
    head = made_head(context)
    head.nets[0].mean.fill_(2.0)
    head.save(tmp_path / "evidence.safetensors")
    again = VoxelHead.load(tmp_path / "evidence.safetensors")
    values, at = block(5)
    for name in ("ball", "cube"):
        np.testing.assert_array_equal(again.log_odds(name, values, at), head.log_odds(name, values, at))
    assert again.structures == ["ball", "cube"] and again.step_mm == 1.5 and again.card == {"seed": 0}
    assert not again.training
    assert not np.allclose(head.log_odds("ball", values, at), head.log_odds("cube", values, at))


def test_two_sides_share_a_net_and_its_place_in_the_file(tmp_path):
    torch.manual_seed(0)
    both, other = VoxelNet(8, 4), VoxelNet(8, 4)
    head = VoxelHead({"left": both, "other": other, "right": both}, 1.0)
    head.save(tmp_path / "evidence.safetensors")
    again = VoxelHead.load(tmp_path / "evidence.safetensors")
    assert again.net_of == [0, 1, 0] and len(again.nets) == 2
    values, at = block(5)
    left, right, middle = (again.log_odds(name, values, at) for name in ("left", "right", "other"))
    np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(middle, head.log_odds("other", values, at))


def test_what_lies_around_tells_as_far_as_the_convolutions_reach():
    """The voxel in the middle of a cube of 18, along the first axis."""
    head = made_head(4)
    values, at = block()
    middle = int(np.flatnonzero((at == 9).all(1))[0])
    before = head.log_odds("ball", values, at)[middle]
    for away, matters in ((1, True), (REACH, True), (REACH + 1, False)):
        changed = values.copy()
        changed[np.flatnonzero((at == [9 - away, 9, 9]).all(1))] += 5.0
        assert (abs(head.log_odds("ball", changed, at)[middle] - before) > 1e-7) == matters, away


def test_where_the_voxels_lie_in_their_volume_does_not_matter():
    head = made_head(4)
    values, at = block(8)
    order = np.random.default_rng(1).permutation(len(at))
    plain = head.log_odds("ball", values, at)
    np.testing.assert_allclose(head.log_odds("ball", values, at + [3, 0, 9]), plain, atol=1e-5)
    np.testing.assert_allclose(head.log_odds("ball", values[order], at[order]), plain[order], atol=1e-5)


def test_volumes_of_one_batch_do_not_see_each_other():
    net = VoxelNet(8, 4).eval()
    one, two = (torch.from_numpy(block(6, seed)[0]) for seed in (0, 1))
    at = in_one_volume(torch.from_numpy(block(6)[1]))
    second = at + torch.tensor([1, 0, 0, 0])
    with torch.no_grad():
        both = net(torch.cat([one, two]), torch.cat([at, second]))
        torch.testing.assert_close(both, torch.cat([net(one, at), net(two, at)]))


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
    net = VoxelNet(8, 4).eval()
    values = torch.randn(125, len(CHANNELS))
    values[:, 1] = 0.0
    net.normalise(values)
    other = values.clone()
    other[:, 1] = 1.0
    at = in_one_volume(torch.from_numpy(block(5)[1]))
    assert torch.equal(net(values, at), net(other, at)) and net(values, at).isfinite().all()


def test_what_is_not_known_counts_as_the_mean():
    net = VoxelNet(8, 4).eval()
    net.mean.fill_(4.0)
    known = torch.full((27, len(CHANNELS)), 4.0)
    unknown = known.clone()
    unknown[:, 3:9] = torch.nan
    at = in_one_volume(torch.from_numpy(block(3)[1]))
    assert torch.equal(net(known, at), net(unknown, at))


@pytest.mark.parametrize("context", [0, 2])
def test_parts_give_what_the_whole_gives(context):
    head = made_head(context)
    at = np.argwhere(np.ones((60, 60, AT_ONCE // 3600 + 2), bool))
    values = np.random.default_rng(1).normal(size=(len(at), len(CHANNELS))).astype(np.float32)
    odds = head.log_odds("ball", values, at)
    corner = (at >= [30, 30, at[:, 2].max() - 20]).all(1)
    deep = (at[corner] > at[corner].min(0) + REACH).all(1)
    alone = head.log_odds("ball", values[corner], at[corner])
    np.testing.assert_allclose(odds[corner][deep], alone[deep], rtol=1e-4, atol=1e-5)
    assert len(odds) == len(values) and len(head.log_odds("ball", values[:0], at[:0])) == 0


def test_threads_leave_the_flags_of_a_gpu_as_they_were():
    """The first to begin waits for the second and ends before it, if it can."""
    first, second, first_ended = threading.Event(), threading.Event(), threading.Event()

    def flags():
        return torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic

    def one():
        with exactly(torch.device("cuda")):
            first.set()
            second.wait(0.2)
        first_ended.set()

    def other():
        first.wait(5)
        with exactly(torch.device("cuda")):
            second.set()
            first_ended.wait(0.2)
            return flags()

    before = flags()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(one)
        seen = pool.submit(other).result()
    after = flags()
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before
    assert seen == (False, True) != before == after
