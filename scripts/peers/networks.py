"""The networks of the comparison by name."""

from __future__ import annotations

from collections.abc import Sequence

from .double_unet import DoubleUNet
from .ictnet import ICTNet
from .implicit_unet import ImplicitUNet
from .iosnet import IOSNet
from .nudf import NUDF
from .peer import Peer
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
