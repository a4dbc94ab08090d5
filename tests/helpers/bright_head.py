"""Voxel heads whose log odds are one channel, times a factor: one calls bright what is bright, one follows the fit."""

import shutil
from pathlib import Path

import numpy as np
import torch

from scripts.evidence.channels import CHANNELS
from scripts.evidence.head import VoxelHead, VoxelNet
from scripts.organ.pack import BLIND_FILE, EVIDENCE_FILE, OrganPack
from scripts.refine.stages import Image


def linear_net(channel: str, factor: float) -> VoxelNet:
    """A linear net, since SiLU(x) - SiLU(-x) = x."""
    net = VoxelNet(2)
    first, second, last = (net.layers[k] for k in (0, 2, 4))
    with torch.no_grad():
        for layer in (first, second, last):
            layer.weight.zero_()
            layer.bias.zero_()
        first.weight[:, CHANNELS.index(channel)] = torch.tensor([1.0, -1.0])
        second.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
        last.weight.copy_(factor * torch.tensor([[1.0, -1.0]]))
    return net


def pack_with_bright_head(folder: Path, organ: str = "hippocampus", step_mm: float = 1.0) -> Path:
    """Copy an organ pack, with a head that calls bright what is bright, and none for masks alone."""
    pack = OrganPack.load(organ)
    shutil.copytree(pack.folder, folder)
    (folder / BLIND_FILE).unlink(missing_ok=True)
    VoxelHead({structure.name: linear_net("ratio_0", 4.0) for structure in pack.structures}, step_mm).save(
        folder / EVIDENCE_FILE
    )
    return folder


def with_following_head(folder: Path, step_mm: float = 1.0) -> Path:
    """Add a head for masks alone to an organ pack: it follows the fit."""
    nets = {structure.name: linear_net("fit", -4.0) for structure in OrganPack.load(folder).structures}
    VoxelHead(nets, step_mm).save(folder / BLIND_FILE)
    return folder


def bright_image(truth: np.ndarray, affine: np.ndarray) -> Image:
    """An image, bright where a label map is not background, with noise."""
    noise = np.random.default_rng(0).normal(0.0, 3.0, truth.shape)
    return Image((100.0 * (truth > 0) + 50.0 + noise).astype(np.float32), affine)
