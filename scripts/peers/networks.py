"""The networks of the comparison by name, also as those that an organ pack is trained and used with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from ..organ.checks import one_of
from ..organ.options import or_none, require
from ..organ.pack import OrganError, OrganPack
from ..unet.network import build_unet
from ..unet.transfer import start_unet
from .double_unet import DoubleUNet
from .ictnet import ICTNet
from .implicit_unet import ImplicitUNet
from .iosnet import IOSNet
from .nudf import NUDF
from .peer import Peer, Task, step_of
from .scan import SCAN
from .unet import UNet3D

PEERS: dict[str, type[Peer]] = {
    "unet": UNet3D,
    "double_unet": DoubleUNet,
    "scan": SCAN,
    "ictnet": ICTNet,
    "implicit_unet": ImplicitUNet,
    "nudf": NUDF,
    "iosnet": IOSNet,
}
ALL = "all"


def choose_networks(names: str | Sequence[str]) -> list[str]:
    """Return the networks that a list with commas names, or all, in the order of `PEERS`.

    Raises:
        ValueError: there is none of a name.
    """
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    chosen = list(PEERS) if listed == [ALL] else listed
    for name in chosen:
        if name not in PEERS:
            raise ValueError(f"networks has '{name}': give {ALL}, or some of {', '.join(PEERS)}")
    return [name for name in PEERS if name in chosen]


def check_network(network_name: object) -> None:
    """Refuse a name of no network; none, or an empty one, means the organ pack's own U-Net.

    Raises:
        SystemExit: there is none of that name; with a plain message.
    """
    require({"network_name": or_none(one_of([*PEERS]))}, {"network_name": None if network_name == "" else network_name})


def build_network(pack: OrganPack, network: str | None = "") -> torch.nn.Module:
    """Build a network with random weights: (B, 1, X, Y, Z) → scores (B, C, X, Y, Z) of the background and each label.

    Args:
        pack: the organ. Its window of training is the block that a network of the comparison sees, also in use.
        network: one of `PEERS`, which has a class a label here, since its masks are the pack's; empty for the pack's
            own U-Net.

    Raises:
        OrganError: see `build_unet`, or the window is no multiple of `step_of` its network.
    """
    if not network:
        return build_unet(pack)
    block, step = pack.patch_size.train, step_of(pack.network)
    if any(edge < step or edge % step for edge in block):
        raise OrganError(
            f"{pack.file}: patch_size: train: {network} needs multiples of {step}, not {list(block)}: give three"
        )
    return PEERS[network](Task(pack.network["out_channels"], block, pack.spacing_mm, pack.network))


def start_network(pack: OrganPack, init: str | Path | None = None, network: str | None = "") -> torch.nn.Module:
    """Build a network with the weights of the same one of another organ, where one is given; see `start_unet`."""
    return start_unet(pack, init, partial(build_network, network=network), network)
