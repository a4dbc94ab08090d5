"""Training of the evidence network on drafts (see `patches`).

The context of a draft is the joint model of the *other* folds, fitted to draft and truth and mixed alike. In a quarter
of the examples the image is withheld. The network that is kept is a moving average over the last part of the training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ...cases.read import read_array, read_labels
from ...evidence.images import normalise_intensity
from ...evidence.network import EvidenceNet
from ...evidence.volumes import distances_on_grid
from ...geometry.resample import WorldGrid, resample
from ...organ.pack import OrganPack
from ...prior.context import fit_context
from ...prior.joint import JointShapeModel
from .patches import Example, draw_patch

AVERAGED_SHARE = 0.02  # of the steps, over which the moving average of the weights reaches back


def load_example(
    name: str,
    image_dir: Path,
    label_dir: Path,
    draft_dirs: list[Path],
    pack: OrganPack,
    joint: JointShapeModel,
    spacing_mm: float,
) -> Example:
    """Read one patient's image, labels and drafts on the grid that covers the image."""
    image, image_affine = read_array(image_dir / name)
    grid = WorldGrid.covering(image_affine, image.shape, spacing_mm)
    values = normalise_intensity(image, pack.intensity)

    def both(label_map: np.ndarray, affine: np.ndarray) -> tuple[Tensor, Tensor]:
        own = distances_on_grid(label_map, affine, pack, grid)
        context = fit_context(label_map, affine, pack, joint).sdf_mm(grid.points_world().reshape(-1, 3))
        return torch.from_numpy(own).half(), torch.from_numpy(context.reshape(own.shape)).half()

    truth, truth_context = both(*read_labels(label_dir / name))
    drafts, contexts = [], []
    for folder in draft_dirs:
        own, context = both(*read_labels(folder / name))
        drafts.append(own)
        contexts.append(context)
    on_grid = torch.from_numpy(resample(values, image_affine, grid))[None].half()
    return Example(on_grid, truth, drafts, contexts, truth_context)


def train_evidence(
    examples: list[Example],
    network: EvidenceNet,
    steps: int = 1000,
    batch: int = 2,
    side: int = 48,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> list[float]:
    """Train the network in place and return the loss of every step."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    loss_of = DiceCELoss(sigmoid=True, batch=True)
    decay = 1.0 - min(0.5, AVERAGED_SHARE**-1 / steps)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    losses = []
    network.train()
    bar = tqdm(range(steps), desc="evidence network")
    for _ in bar:
        patches = [draw_patch(examples[rng.integers(len(examples))], side, rng) for _ in range(batch)]
        image, mask, context, truth = (torch.stack(parts) for parts in zip(*patches, strict=True))
        optimiser.zero_grad()
        loss = loss_of(network(image, mask, context), (truth < 0).float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        losses.append(float(loss.detach()))
        bar.set_postfix(loss=f"{np.mean(losses[-30:]):.3f}")
    network.load_state_dict(average.module.state_dict())
    network.eval()
    return losses
