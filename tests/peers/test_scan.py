"""The critic and the segmenter of SCAN learn against each other by one sum of losses."""

import torch
from monai.networks import one_hot
from torch.nn.functional import binary_cross_entropy_with_logits

from scripts.peers.scan import ALONE, SCAN, WEIGHT, smoothed
from tests.helpers.blobs import blob_task, blobs


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    case = blobs(1, seed=0)[0]
    return case["image"][None], case["label"][None]


def test_the_critic_learns_to_tell_masks_apart_and_nothing_else():
    torch.manual_seed(0)
    peer = SCAN(blob_task())
    images, labels = batch()
    peer.loss(images, labels, 1.0).backward()
    found = [weight.grad for weight in peer.critic.parameters()]
    made, true = peer.segmenter(images).softmax(1).detach(), smoothed(one_hot(labels, 2))
    calls = [peer.critic(torch.cat([mask, images], dim=1)) for mask in (true, made)]
    alone = sum(
        binary_cross_entropy_with_logits(c, torch.full_like(c, v)) for c, v in zip(calls, (1.0, 0.0), strict=True)
    )
    for grad, expected in zip(found, torch.autograd.grad(WEIGHT * alone, list(peer.critic.parameters())), strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-3, atol=1e-7)


def test_the_segmenter_learns_from_the_critic_only_after_a_while():
    torch.manual_seed(0)
    peer = SCAN(blob_task())
    images, labels = batch()
    grads = []
    for progress in (0.5 * ALONE, 1.0):
        peer.zero_grad()
        peer.loss(images, labels, progress).backward()
        grads.append(torch.cat([weight.grad.flatten() for weight in peer.segmenter.parameters()]))
        assert (next(peer.critic.parameters()).grad is None) == (progress < ALONE)
    assert not torch.allclose(*grads, rtol=1e-3)


def test_no_value_of_the_smoothed_truth_is_exactly_0_or_1():
    soft = smoothed(one_hot(batch()[1], 2))
    assert soft.min() > 0.0 and soft.max() < 1.0
    torch.testing.assert_close(soft.sum(1), torch.ones_like(soft[:, 0]))
