"""The voxel head: from what is known of a voxel to the odds that it belongs to a structure.

A prior knows shapes and an image knows edges; which of them to believe, where, and how far a mask may be wrong, is
learned per structure, from masks of every quality. A head is a small perceptron on the channels of each voxel by
itself, and a few convolutions over those around it. It only proposes: what is taken over is decided region by region.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..cases.files import whole_file
from ..gpu_memory import with_less
from ..prior.tensor_file import TensorFile, open_tensors
from .channels import CHANNELS
from .neighbourhood import Neighbourhood, in_one_volume

WIDTH, CONTEXT = 64, 16
MOST_STRUCTURES = 256
AT_ONCE = 200_000  # voxels, for memory
LEAST_SPREAD = 1e-3  # of a channel in training, below which it tells nothing
DECIMALS = 3  # of a channel, over its standard deviation
LARGEST = 6.0  # of a channel, in its standard deviations
CUDNN = threading.Lock()  # its flags are the whole process's


class VoxelNet(nn.Module):
    """The net of one structure, or of both sides of one.

    Args:
        width: of the two hidden layers of its perceptron.
        context: width of its convolutions; 0 for none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = WIDTH, context: int = 0) -> None:
        super().__init__()
        self.width, self.context = width, context
        self.register_buffer("mean", torch.zeros(len(CHANNELS)))
        self.register_buffer("std", torch.ones(len(CHANNELS)))
        self.layers = nn.Sequential(
            nn.Linear(len(CHANNELS), width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )
        self.around = Neighbourhood(len(CHANNELS), context) if context else None

    def normalise(self, values: Tensor) -> None:
        """Take over mean and standard deviation of channels (N, C), NaN left out."""
        known = values.isfinite()
        count = known.sum(0).clamp_min(1)
        filled = torch.where(known, values, 0.0)
        self.mean.copy_(filled.sum(0) / count)
        variance = torch.where(known, (filled - self.mean) ** 2, 0.0).sum(0) / count
        std = variance.sqrt()
        self.std.copy_(torch.where(std > LEAST_SPREAD, std, torch.inf))  # what never varied tells nothing

    def scaled(self, values: Tensor) -> Tensor:
        """Return channels (N, C) in their standard deviations; unknown ones count as their mean."""
        scaled = ((values - self.mean) / self.std).clamp(-LARGEST, LARGEST).nan_to_num(0.0)
        return scaled.round(decimals=DECIMALS)  # below are what the order of sums changes from process to process

    def forward(self, values: Tensor, at: Tensor) -> Tensor:
        """Return the log odds (N,) of voxels whose channels are (N, C), at (N, 4), see `Neighbourhood`."""
        scaled = self.scaled(values)
        alone = self.layers(scaled)[:, 0]
        return alone if self.around is None else alone + self.around(scaled, at)


class VoxelHead(nn.Module):
    """The voxel nets of an organ pack's structures.

    Args:
        nets: structure name → its net; two sides of a structure may share one.
        step_mm: spacing of the grids that they judge; grids of larger voxels are judged as they are.
        card: what they were trained on.
    """

    def __init__(self, nets: Mapping[str, VoxelNet], step_mm: float, card: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.structures = list(nets)
        self.nets = nn.ModuleList(dict.fromkeys(nets.values()))
        self.net_of = [list(self.nets).index(net) for net in nets.values()]
        self.width, self.context = (max(getattr(net, of) for net in self.nets) for of in ("width", "context"))
        self.step_mm = float(step_mm)
        self.card = dict(card or {})

    @property
    def knows_prior(self) -> bool:
        """Whether it learned with what a prior says; otherwise it is told nothing of the fits."""
        return self.card.get("without") != "prior"

    def log_odds(self, name: str, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the log odds (N,) that voxels belong to a structure.

        Of each by itself they are computed in double precision, so that the order of sums seldom moves a voxel across a
        threshold.

        Args:
            name: the structure's.
            values: (N, C) channels, see `channels`.
            at: (N, 3) where the voxels lie, see `Scene.upright`.
        """
        net = cast(VoxelNet, self.nets[self.net_of[self.structures.index(name)]])
        if not len(values):
            return np.zeros(0, np.float32)
        here = next(net.parameters()).device

        def found(device: torch.device, size: int) -> np.ndarray:
            return _log_odds(net if device == here else copy.deepcopy(net).to(device), values, at, device, size)

        return with_less(found, here, AT_ONCE, "a voxel head judges")

    def save(self, path: Path) -> None:
        """Write the head as safetensors with the card in the header."""
        tensors = {name: value.contiguous() for name, value in self.nets.state_dict().items()}
        header = {
            "structures": self.structures,
            "channels": list(CHANNELS),
            "step_mm": self.step_mm,
            "width": self.width,
            "context": self.context,
            "nets": self.net_of,
            "card": self.card,
        }
        with whole_file(path) as temporary:
            save_file(tensors, temporary, metadata={"evidence": json.dumps(header, sort_keys=True)})

    @classmethod
    def load(cls, path: Path, device: str | torch.device = "cpu") -> VoxelHead:
        """Read a head that `save` wrote, in evaluation mode.

        Raises:
            BrokenFile: the file holds no voxel head, or its header does not fit its tensors.
        """
        with open_tensors(path, "evidence") as file:
            width, context, net_of = _check(file)
            header, state = file.header, file.tensors()
        nets = {number: VoxelNet(width, context) for number in sorted(set(net_of))}
        named = {name: nets[number] for name, number in zip(header["structures"], net_of, strict=True)}
        head = cls(named, header["step_mm"], header.get("card"))
        head.nets.load_state_dict(state)
        return head.to(torch.device(device)).eval()


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Let a GPU's convolutions be in full precision, and the same each time; one thread at a time."""
    if device.type != "cuda":
        yield
        return
    with CUDNN, torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        yield


@torch.no_grad()
def _log_odds(net: VoxelNet, values: np.ndarray, at: np.ndarray, device: torch.device, size: int) -> np.ndarray:
    """Return the log odds (N,) of `VoxelHead.log_odds`, of so many voxels at a time by themselves."""
    alone = copy.deepcopy(net.layers).double()
    odds, scaled = [], []
    for start in range(0, len(values), size):
        own = net.scaled(torch.from_numpy(values[start : start + size]).to(device).double())
        odds.append(alone(own)[:, 0].float())
        if net.around is not None:
            scaled.append(own.float())
    found = torch.cat(odds)
    if net.around is not None:
        with exactly(device):
            found += net.around(torch.cat(scaled), in_one_volume(torch.from_numpy(at).to(device)))
    return found.cpu().numpy()


def _check(file: TensorFile) -> tuple[int, int, list[int]]:
    """Check that the header fits the tensors, before a net is built of what it says.

    Returns:
        The nets' width, the width of their convolutions, and for each structure the number of its net.

    Raises:
        BrokenFile: it does not fit.
    """
    structures = file.header.get("structures")
    if not isinstance(structures, list) or not 1 <= len(structures) <= MOST_STRUCTURES:
        raise file.broken(f"its header names no structures, or more than {MOST_STRUCTURES}")
    file.require(all(isinstance(name, str) for name in structures), "its header's structures are no names")
    file.require(len(set(structures)) == len(structures), "its header names a structure twice")
    file.require(file.header.get("channels") == list(CHANNELS), "its channels are not those of this version")
    file.require(isinstance(file.header.get("card", {}), dict), "its card is no mapping")
    file.length(file.header, "step_mm", 100.0)
    width = file.whole(file.header, "width", 1024)
    context = file.whole(file.header, "context", 256) if file.header.get("context", 0) != 0 else 0
    net_of = file.header.get("nets", list(range(len(structures))))
    count = len(set(net_of)) if isinstance(net_of, list) and all(type(k) is int for k in net_of) else 0
    ordered = count and len(net_of) == len(structures) and list(dict.fromkeys(net_of)) == list(range(count))
    file.require(bool(ordered), "its header does not number the structures' nets")
    with torch.device("meta"):  # shapes only: no memory
        net = VoxelNet(width, context).state_dict()
    expected = {f"{k}.{key}": tuple(value.shape) for k in range(count) for key, value in net.items()}
    unknown = [name for name in file.shapes if name not in expected]
    file.require(not unknown, f"its header's nets have no {unknown[:1]}")
    file.require_shapes(expected)
    return width, context, net_of
