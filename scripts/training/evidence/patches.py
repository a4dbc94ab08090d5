"""Random patches of patients for the training of the evidence network: turned, scaled, of all qualities and contrasts.

There are few patients, so each patch is read from its volume through a random rotation and scaling. The signed distance
of the draft is mixed with the true one by a random share a structure, `s = (1 - a) s_truth + a s_draft`, so that one
draft yields masks of all qualities whose errors keep the form that real networks give them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from ...evidence.network import CLAMP_MM

CENTRED = 0.6  # share of patches around a voxel of a random structure; the others lie anywhere


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


def draw_patch(
    example: Example, side: int, rng: np.random.Generator, no_image: float = 0.25
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw one random patch of a patient.

    Args:
        example: the patient.
        side: voxels along each axis.
        rng: random generator.
        no_image: how often the image is withheld.

    Returns:
        Image (1, side, side, side), NaN where there is none; mask, context and true distances (S, side, side, side) in
        mm of the patch, `CLAMP_MM` beyond the patient's grid.
    """
    pick = rng.integers(len(example.drafts))
    turn = Rotation.from_rotvec(np.radians(rng.normal(0.0, 6.0, 3))).as_matrix()
    step = np.exp(rng.normal(0.0, 0.08))  # voxels of the patient's grid between two of the patch
    index = step * (np.indices((side,) * 3).reshape(3, -1).T - (side - 1) / 2) @ turn.T + _centre(example, side, rng)
    parts = [example.image, example.truth, example.drafts[pick], example.contexts[pick], example.truth_context]
    inside, sampled = _sample(parts, index, side)
    image = torch.where(inside, sampled[0], torch.nan)
    truth, draft, context, truth_context = (
        torch.where(inside, part / step, CLAMP_MM).clamp(-CLAMP_MM, CLAMP_MM) for part in sampled[1:]
    )
    share = torch.from_numpy(rng.choice([0.0, 1.0, -1.0], size=(len(truth), 1, 1, 1), p=[0.1, 0.4, 0.5]))
    share = torch.where(share < 0, torch.from_numpy(rng.random(share.shape)), share).float()
    mask = (1 - share) * truth + share * draft
    around = (1 - share) * truth_context + share * context
    if rng.random() < no_image:
        return torch.full_like(image, torch.nan), mask, around, truth
    return _varied(image, rng), mask, around, truth


def _centre(example: Example, side: int, rng: np.random.Generator) -> np.ndarray:
    """Index (3,) of a patch's centre: of a voxel near a random structure's, or such that the patch lies inside."""
    shape = np.array(example.image.shape[1:])
    if rng.random() < CENTRED:
        own = np.argwhere(example.truth[rng.integers(len(example.truth))].numpy() < 0)
        if len(own):
            return own[rng.integers(len(own))] + rng.uniform(-side / 6, side / 6, 3)
    room = np.maximum(shape - side, 0)
    return (shape - 1) / 2 + rng.uniform(-0.5, 0.5, 3) * room


def _sample(parts: list[Tensor], index: np.ndarray, side: int) -> tuple[Tensor, list[Tensor]]:
    """Interpolate volumes (C, X, Y, Z) at indices (side³, 3): which lie inside, and (C, side, side, side) each."""
    shape = np.array(parts[0].shape[1:])
    inside = ((index >= 0) & (index <= shape - 1)).all(1)
    lower = np.clip(np.floor(index.min(0)).astype(int), 0, shape - 2)
    upper = np.clip(np.ceil(index.max(0)).astype(int) + 1, lower + 2, shape)
    box = (slice(None), *[slice(a, b) for a, b in zip(lower, upper, strict=True)])
    volume = torch.cat([part[box].float() for part in parts])[None]
    at = 2.0 * (index - lower) / (upper - lower - 1) - 1.0
    grid = torch.from_numpy(at[:, ::-1].reshape(1, side, side, side, 3).astype(np.float32))
    values = functional.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=True)[0]
    return torch.from_numpy(inside.reshape(1, side, side, side)), list(values.split([len(part) for part in parts]))


def _varied(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Return an image of another contrast, brightness and noise."""
    image = image.sign() * image.abs() ** float(np.exp(rng.normal(0, 0.25))) * float(np.exp(rng.normal(0, 0.12)))
    noise = torch.from_numpy(rng.normal(size=image.shape)).float()
    return image + float(rng.normal(0, 0.03)) + 0.04 * float(rng.random()) * noise
