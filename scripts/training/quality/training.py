"""Training of the perceptrons that predict a mask's quality."""

from __future__ import annotations

import numpy as np
import torch

from ...quality.predictor import MEMBERS, QualityNet

STEPS = 800
BATCH = 256
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
NOISE = 0.1  # added to the inputs, in standard deviations
UNKNOWN = 0.1  # of the features are hidden at random: other packs lack a joint model


def train_net(values: np.ndarray, targets: np.ndarray, weights: np.ndarray, seed: int) -> QualityNet:
    """Train the perceptrons by maximum likelihood of a normal error (Nix and Weigend 1994).

    Args:
        values: (N, F) features.
        targets: (N, 2) see `quality.predictor.targets_of`.
        weights: (N,) how often each is drawn, relative to the others.
        seed: of initialisation and order.
    """
    torch.manual_seed(seed)
    net = QualityNet(MEMBERS)
    given, wanted = torch.from_numpy(values).float(), torch.from_numpy(targets).float()
    net.normalise(given)
    chance = torch.from_numpy(weights).double()
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.multinomial(chance, BATCH, replacement=True)
        drawn = given[chosen]
        drawn = torch.where(torch.rand_like(drawn) < UNKNOWN, torch.nan, drawn)
        drawn = drawn + NOISE * net.std.nan_to_num(posinf=0.0) * torch.randn_like(drawn)
        mean, spread = net(drawn)
        loss = (spread.log() + 0.5 * ((wanted[chosen] - mean) / spread) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()
