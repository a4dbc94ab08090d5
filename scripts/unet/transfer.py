"""A U-Net that starts from another organ's: all weights of the same name and shape, but not the output layer."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import torch

from ..organ.pack import OrganError, OrganPack
from .network import build_unet, network_file

Build = Callable[[OrganPack], torch.nn.Module]

logger = logging.getLogger(__name__)


def start_unet(
    pack: OrganPack, init: str | Path | None = None, build: Build = build_unet, name: str | None = ""
) -> torch.nn.Module:
    """Build the organ's U-Net, with the weights of another organ's where one is given.

    The output layer is new: its channels mean other structures there.

    Args:
        pack: the organ.
        init: an organ of `models/` or path of an organ pack, whose U-Net is meant, or a file of weights; None for
            random weights.
        build: of another network than the U-Net: what builds it for a pack,
        name: and its name.

    Raises:
        OrganError: see `build_unet`; or there are no such weights, or none of them fits.
    """
    network = build(pack)
    if init is None:
        return network
    file = find_weights(init, name)
    try:
        theirs = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise OrganError(f"--init {init}: {file} holds no weights: {str(error).splitlines()[0]}") from error
    if not isinstance(theirs, dict):
        raise OrganError(f"--init {init}: {file} holds no weights by name, as model.pt does")
    own = network.state_dict()
    fresh = _output_layer(pack, network, build)
    taken = {
        name: theirs[name]
        for name, value in own.items()
        if name not in fresh and isinstance(theirs.get(name), torch.Tensor) and theirs[name].shape == value.shape
    }
    if not taken:
        raise OrganError(
            f"--init {init}: none of its {len(theirs)} tensors fits the {name or 'U-Net'} of '{pack.name}': describe a "
            f"network of the same make under `network` in {pack.file}, or leave out --init"
        )
    network.load_state_dict(own | taken)
    names = [name for name, _ in network.named_parameters()]  # each once; a state may list a layer under two names
    count = sum(name in taken for name in names)
    logger.info("%d of %d tensors taken over from %s; the output layer is new", count, len(names), file)
    return network


def find_weights(init: str | Path, name: str | None = "") -> Path:
    """Return the file of weights that `init` means: a file, or an organ, whose U-Net's, or named network's, it is.

    Raises:
        OrganError: there is no such file or organ, or the organ's U-Net has no weights.
    """
    if Path(init).is_file():
        return Path(init)
    try:
        file = Path(network_file(OrganPack.load(str(init)), name))
    except OrganError as error:
        raise OrganError(f"--init {init}: neither a file of weights nor an organ of models/") from error
    if not file.is_file():
        raise OrganError(f"--init {init}: this organ has no trained {name or 'U-Net'}: there is no {file}")
    return file


def _output_layer(pack: OrganPack, network: torch.nn.Module, build: Build) -> set[str]:
    """Return the names of the tensors of an organ's network whose shape depends on the number of structures."""
    labels = {**pack.labels, max(pack.labels) + 1: "one more"}
    more = dataclasses.replace(pack, labels=labels, network={**pack.network, "out_channels": len(labels) + 1})
    with torch.random.fork_rng():
        shapes = {name: value.shape for name, value in build(more).state_dict().items()}
    return {name for name, value in network.state_dict().items() if value.shape != shapes[name]}
