"""Training of the evidence network on drafts.

Each example starts from a patient's draft. Its signed distance is mixed with the true one by a random share a
structure, `s = (1 - a) s_truth + a s_draft`, so that one draft yields masks of all qualities whose errors keep the
form that real networks give them. The context is the joint model of the *other* folds, fitted to draft and truth and
mixed alike. In a quarter of the examples the image is withheld.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor
from tqdm import tqdm

from ..geometry.resample import WorldGrid, resample
from ..io import read_array
from ..organ import OrganPack
from ..prior.joint import JointShapeModel
from ..refine.context import fit_context
from .images import normalise_intensity
from .network import CLAMP_MM, EvidenceNet
from .volumes import distances_on_grid


@dataclass
class Example:
    """One patient on the network's grid; distances in mm, (S, X, Y, Z) half precision.

    Attributes:
        image: (1, X, Y, Z).
        truth: signed distances of the truth.
        drafts: of each draft.
        contexts: of the joint model's fit to each draft.
        truth_context: of the joint model's fit to the truth.
    """

    image: Tensor
    truth: Tensor
    drafts: list[Tensor]
    contexts: list[Tensor]
    truth_context: Tensor


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
    values = normalise_intensity(image, **pack.intensity)

    def both(label_map: np.ndarray, affine: np.ndarray) -> tuple[Tensor, Tensor]:
        own = distances_on_grid(label_map, affine, pack, grid)
        context = fit_context(label_map, affine, pack, joint).sdf_mm(grid.points_world().reshape(-1, 3))
        return torch.from_numpy(own).half(), torch.from_numpy(context.reshape(own.shape)).half()

    truth, truth_context = both(*read_array(label_dir / name))
    drafts, contexts = [], []
    for folder in draft_dirs:
        own, context = both(*read_array(folder / name))
        drafts.append(own)
        contexts.append(context)
    on_grid = torch.from_numpy(resample(values, image_affine, grid))[None].half()
    return Example(on_grid, truth, drafts, contexts, truth_context)


def draw_patch(
    example: Example, side: int, rng: np.random.Generator, no_image: float = 0.25
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return image (1, …), mask and context distances (S, …) and truth (S, …) of one random patch of `side` voxels."""
    pick = rng.integers(len(example.drafts))
    lower = [rng.integers(0, max(n - side, 0) + 1) for n in example.image.shape[1:]]
    at = (slice(None), *[slice(a, a + side) for a in lower])
    share = torch.from_numpy(rng.choice([0.0, 1.0, -1.0], size=(len(example.truth), 1, 1, 1), p=[0.1, 0.4, 0.5]))
    share = torch.where(share < 0, torch.from_numpy(rng.random(share.shape)), share).float()
    truth = example.truth[at].float()
    mask = (1 - share) * truth + share * example.drafts[pick][at].float()
    context = (1 - share) * example.truth_context[at].float() + share * example.contexts[pick][at].float()
    image = example.image[at].float()
    if rng.random() < no_image:
        image = torch.full_like(image, torch.nan)
    else:
        image = image.clamp_min(0) ** float(np.exp(rng.normal(0, 0.15))) * float(np.exp(rng.normal(0, 0.1)))
        image = image + 0.02 * float(rng.random()) * torch.from_numpy(rng.normal(size=image.shape)).float()
    missing = [max(side - n, 0) for n in image.shape[1:]]
    pads = [0, missing[2], 0, missing[1], 0, missing[0]]
    parts = [
        torch.nn.functional.pad(part, pads, value=fill)
        for part, fill in ((image, torch.nan), (mask, CLAMP_MM), (context, CLAMP_MM), (truth, CLAMP_MM))
    ]
    return parts[0], parts[1], parts[2], parts[3]


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
        losses.append(float(loss.detach()))
        bar.set_postfix(loss=f"{np.mean(losses[-30:]):.3f}")
    network.eval()
    return losses
