"""Training of a voxel head on examples."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ...evidence.head import VoxelNet

BATCH = 8192
LEARNING_RATE = 3e-3
NOISE = 0.05  # added to the channels, in standard deviations: examples of one draft are much alike


def train_net(values: np.ndarray, truth: np.ndarray, steps: int, seed: int, name: str = "voxel net") -> VoxelNet:
    """Train the net of one structure.

    Args:
        values: (N, C) channels.
        truth: (N,) bool.
        steps: training steps.
        seed: of initialisation and order.
        name: of the progress bar.
    """
    torch.manual_seed(seed)
    net = VoxelNet()
    inputs, wanted = torch.from_numpy(values).float(), torch.from_numpy(truth).float()
    net.normalise(inputs)
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    loss_of = nn.BCEWithLogitsLoss()
    bar = tqdm(range(steps), desc=name, disable=None)
    for _ in bar:
        chosen = torch.randint(len(inputs), (BATCH,))
        drawn = inputs[chosen]
        optimiser.zero_grad()
        loss = loss_of(net(drawn + NOISE * net.std * torch.randn_like(drawn)), wanted[chosen])
        loss.backward()
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return net.eval()
