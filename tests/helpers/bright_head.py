"""A voxel head that calls bright what is bright: its log odds are the channel `ratio_0`, times a factor."""

import shutil
from pathlib import Path

import numpy as np
import torch

from scripts.evidence.channels import CHANNELS
from scripts.evidence.head import VoxelHead, VoxelNet
from scripts.organ.pack import EVIDENCE_FILE, OrganPack
from scripts.refine.stages import Image


def bright_net(factor: float = 4.0) -> VoxelNet:
    """A linear net, since SiLU(x) - SiLU(-x) = x."""
    net = VoxelNet(2)
    first, second, last = (net.layers[k] for k in (0, 2, 4))
    with torch.no_grad():
        for layer in (first, second, last):
            layer.weight.zero_()
            layer.bias.zero_()
        first.weight[:, CHANNELS.index("ratio_0")] = torch.tensor([1.0, -1.0])
        second.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
        last.weight.copy_(factor * torch.tensor([[1.0, -1.0]]))
    return net


def pack_with_bright_head(folder: Path, organ: str = "hippocampus", step_mm: float = 1.0) -> Path:
    """Copy an organ pack, with such a head in place of its own."""
    pack = OrganPack.load(organ)
    shutil.copytree(pack.folder, folder)
    nets = {structure.name: bright_net() for structure in pack.structures}
    VoxelHead(nets, step_mm).save(folder / EVIDENCE_FILE)
    return folder


def bright_image(truth: np.ndarray, affine: np.ndarray) -> Image:
    """An image, bright where a label map is not background, with noise."""
    noise = np.random.default_rng(0).normal(0.0, 3.0, truth.shape)
    return Image((100.0 * (truth > 0) + 50.0 + noise).astype(np.float32), affine)
