"""Training of a voxel head on examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...evidence.head import CONTEXT, WIDTH, VoxelNet
from .examples import Example

PATCH = 20  # voxels along its edge
PATCHES = 2  # a step
LEARNING_RATE = 3e-3
NOISE = 0.05  # added to the channels, in standard deviations: examples of one draft are much alike
STATISTICS_OF = 500_000  # voxels, at most, that the channels' means are taken of


def train_net(examples: Sequence[Example], steps: int, seed: int, name: str = "voxel net") -> VoxelNet:
    """Train the net of one structure.

    Args:
        examples: of it, one a draft.
        steps: training steps.
        seed: of initialisation and order.
        name: of the progress bar.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = VoxelNet(WIDTH, CONTEXT)
    every = sum(len(one.truth) for one in examples) // STATISTICS_OF + 1
    net.normalise(torch.from_numpy(np.concatenate([one.values[::every] for one in examples])).float())
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    loss_of = nn.BCEWithLogitsLoss()
    bar = tqdm(range(steps), desc=name, disable=None)
    for _ in bar:
        values, at, truth = _draw(examples, rng)
        optimiser.zero_grad()
        loss = loss_of(net(values + NOISE * net.std * torch.randn_like(values), at), truth)
        loss.backward()
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return net.eval()


def _draw(examples: Sequence[Example], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the voxels of patches of random examples: channels (N, C), patch and place in it (N, 4), truth (N,)."""
    values, places, truth = [], [], []
    for number in range(PATCHES):
        one = examples[int(rng.integers(len(examples)))]
        corner = one.at[rng.integers(len(one.at))] - rng.integers(PATCH, size=3)
        within = np.flatnonzero(((one.at >= corner) & (one.at < corner + PATCH)).all(1))
        values.append(one.values[within])
        places.append(np.insert(one.at[within] - corner, 0, number, axis=1))
        truth.append(one.truth[within])
    drawn = torch.from_numpy(np.concatenate(values)).float()
    return drawn, torch.from_numpy(np.concatenate(places)).long(), torch.from_numpy(np.concatenate(truth)).float()
