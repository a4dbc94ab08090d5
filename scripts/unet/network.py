"""The U-Net of an organ pack: what it is, where its weights are, and how it is applied."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.networks.nets import BasicUNet, DynUNet, UNet
from monai.utils import ensure_tuple_rep

from ..gpu_memory import CPU, release, to_cpu
from ..organ.checks import one_of, unknown, whole
from ..organ.pack import MODELS, OrganError, OrganPack
from ..organ.places import NETWORK_FILE
from ..organ.structure import MOST_LABEL

NETWORKS: dict[str, type[torch.nn.Module]] = {"UNet": UNet, "DynUNet": DynUNet, "BasicUNet": BasicUNet}

BASIC_UNET_STEP = 16  # voxels: MONAI's BasicUNet, which has no strides to say, halves its grid four times


def check_unet(pack: OrganPack) -> None:
    """Check that a pack describes a U-Net of its organ; the random numbers that follow are as without it.

    Raises:
        OrganError: see `build_unet`.
    """
    with torch.random.fork_rng():
        build_unet(pack)


def build_unet(pack: OrganPack) -> torch.nn.Module:
    """Build the organ's U-Net with random weights: (B, 1, X, Y, Z) → logits (B, C, X, Y, Z).

    The pack's `network` names one of MONAI's networks (`name`, `UNet` where it is left out) and its arguments.

    Raises:
        OrganError: the pack describes no network, one that MONAI does not have or cannot build, or one whose outputs
            are not background and the pack's labels in order.
    """
    where = f"{pack.file}: network"
    if not pack.network:
        raise OrganError(
            f"organ '{pack.name}' has no U-Net: train one (shape-refine train, configs/train.yaml), or refine masks of "
            "another model (shape-refine refine, configs/refine.yaml)"
        )
    outputs = whole(2, MOST_LABEL)(pack.network.get("out_channels"), f"{where}: out_channels")
    if sorted(pack.labels) != list(range(1, outputs)):
        raise OrganError(
            f"organ '{pack.name}': a U-Net with {outputs} outputs needs the labels 1 to {outputs - 1}, not "
            f"{sorted(pack.labels)}"
        )
    arguments = dict(pack.network)
    name = one_of(list(NETWORKS))(arguments.pop("name", "UNet"), f"{where}: name")
    known = list(inspect.signature(NETWORKS[name]).parameters)
    for key in arguments:
        if key not in known:
            raise unknown(where, key, known)
    try:
        return NETWORKS[name](**arguments)
    except Exception as error:  # each of MONAI's networks has errors of its own
        raise OrganError(f"{where}: {name} cannot be built so: {' '.join(str(error).split())}") from error


def weights_name(network: str | None = "") -> str:
    """Return the file name of weights: of the pack's own U-Net, or of another network by its name."""
    return f"model_{network}.pt" if network else NETWORK_FILE


def network_file(pack: OrganPack, network: str | None = "") -> str:
    """Return where the weights of an organ's U-Net are: `models/model.pt` for the default organ, else in its pack.

    Those of another network, by its name, lie beside them.
    """
    return str((MODELS if pack.default else pack.folder) / weights_name(network))


def own_network(
    network: torch.nn.Module, pack: OrganPack, device: str | torch.device, name: str | None = ""
) -> torch.nn.Module | None:
    """Return an organ's U-Net, or another network by name, with its weights; None for the default organ's U-Net.

    Hosts hold one network, that of `models/model.pt`, and hand it to the inferer for every request. An inferer for
    another organ applies this one instead.

    Args:
        network: the organ's network, whose weights are replaced.
        pack: its pack.
        device: where it runs.
        name: of another network than the U-Net.

    Raises:
        OrganError: the organ has no weights, or they are another network's.
    """
    if pack.default and not name:
        return None
    return with_weights(network, pack, device, name)


def with_weights(
    network: torch.nn.Module, pack: OrganPack, device: str | torch.device, name: str | None = ""
) -> torch.nn.Module:
    """Return a network with the weights that a pack has of it, ready for use.

    Args:
        network: whose weights are replaced.
        pack: the organ pack.
        device: where it runs.
        name: of another network than the U-Net.

    Raises:
        OrganError: the pack has no weights, or they are another network's.
    """
    file, meant = network_file(pack, name), name or "U-Net"
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise OrganError(
            f"{file} does not hold the weights of the {meant} that {pack.file} describes: train it anew ({error})"
        ) from error
    return network.to(torch.device(device)).eval()


def in_bfloat16(network: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return what applies a network in bfloat16 on processors that compute with it, which takes half the time.

    Its logits are float32 there. Weights, other processors and what a GPU does are left as they are.
    """

    def apply(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if inputs.device.type != "cpu":
            return network(inputs, *args, **kwargs)
        known = torch.cpu.get_capabilities()
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(known.get("avx512_bf16") or known.get("amx_bf16"))):
            return network(inputs, *args, **kwargs).float()

    return apply


def steps_of(network: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return what the edges of an image must be multiples of, voxels an axis, for a U-Net as a pack describes it.

    Its `strides`, one number a level or one an axis, multiply.
    """
    if network.get("name") == "BasicUNet":
        return (BASIC_UNET_STEP,) * 3
    given = network.get("strides", [])  # of what is no list `build_unet` says so
    strides = [ensure_tuple_rep(stride, 3) for stride in given] if isinstance(given, list | tuple) else []
    x, y, z = (math.prod(stride[axis] for stride in strides) for axis in range(3))
    return x, y, z


def fitted(window: Sequence[int] | int, shape: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """Return a network's window (voxels an axis) for an image of that shape (X, Y, Z).

    Along an axis on which the image is shorter than the window, or the window is -1, it is the image, rounded up to a
    multiple of the network's step: more would only hold padding. It is two steps at least, since of a single voxel at
    the lowest level nothing can be normalised.

    Args:
        window: the largest, voxels an axis.
        shape: of the image.
        steps: see `steps_of`.
    """
    lengths = (max(2, -(-length // step)) * step for length, step in zip(shape, steps, strict=True))
    largest = ensure_tuple_rep(window, len(shape))
    return tuple(length if edge < 1 else min(edge, length) for edge, length in zip(largest, lengths, strict=True))


class TrainingInferer(SimpleInferer):
    """Applies a network in training, see `in_bfloat16`."""

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the network's logits of (B, C, X, Y, Z)."""
        return in_bfloat16(network)(inputs, *args, **kwargs)


class FlipAveragingInferer(Inferer):
    """Sliding windows over the image and, optionally, its mirror images; the logits are averaged.

    Args:
        roi_size: the window, voxels; -1 for the whole image.
        flip_axes: spatial axes (0, 1, 2) to mirror one at a time; none for a single pass.
        overlap: share of a window that overlaps its neighbour.
        own_network: applied in place of the network that it is called with; see `own_network`.
        exact: never computes in bfloat16, see `in_bfloat16`: for networks that are compared by small differences.
        steps: of the network, see `steps_of`: for smaller images the window is smaller, see `fitted`; None for a
            network that knows one window only.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        flip_axes: Sequence[int] = (),
        overlap: float = 0.5,
        own_network: torch.nn.Module | None = None,
        exact: bool = False,
        steps: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.own_network = own_network
        self.exact = exact
        self.flip_axes = tuple(flip_axes)
        self.roi_size = roi_size
        self.overlap = overlap

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Apply the network to (B, C, X, Y, Z) and return its mean logits.

        Where a GPU has no memory for it, the windows' logits are put together on the CPU, and where it has none for a
        window, all is done there. The logits then are on the CPU.

        Further arguments are ignored: a host may pass on all tensors of a case's dictionary.
        """
        network = self.own_network if self.own_network is not None else network
        for put_together_on in (None, CPU):
            try:
                return self._averaged(inputs, network, put_together_on)
            except torch.OutOfMemoryError:
                pass  # what it held is free when the error is
            release()
        to_cpu("a network is applied")
        there = copy.deepcopy(network).to(CPU) if isinstance(network, torch.nn.Module) else network
        return self._averaged(inputs.to(CPU), there)

    def _averaged(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        put_together_on: torch.device | str | None = None,
    ) -> torch.Tensor:
        network = network if self.exact else in_bfloat16(network)
        roi_size = self.roi_size if self.steps is None else fitted(self.roi_size, inputs.shape[2:], self.steps)
        window = SlidingWindowInferer(
            roi_size, sw_batch_size=1, overlap=self.overlap, mode="gaussian", device=put_together_on
        )
        total = torch.as_tensor(window(inputs, network))
        for axis in self.flip_axes:
            mirrored = torch.as_tensor(window(torch.flip(inputs, (axis + 2,)), network))
            total = total + torch.flip(mirrored, (axis + 2,))
        return total / (1 + len(self.flip_axes))


class NoNetworkInferer(Inferer):
    """Gives its input back: no network is applied where a mask is there."""

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return `inputs`."""
        return inputs
