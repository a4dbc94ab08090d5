"""A field that starts from another organ's prior: all weights that do not belong to the codes' components."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from ...organ.pack import OrganError, OrganPack
from ...prior.field import DeformTemplateField
from ...prior.hypernet import deform_layer_sizes
from ...prior.prior import ShapePrior

CODE_SETTINGS = ("code_dim", "hyper_code_dim")
# last layer of the MLP that gives the first deform layer
FIRST_LAYER_HEAD = {"full": "hyper.nets.0.4.", "low_rank": "hyper.nets.0.2."}


def find_prior(init: str | Path, structure: str) -> Path:
    """The prior that `init` means: a file, an organ (`thorax`), or an organ's structure (`thorax/heart`).

    Of an organ, the structure of the same name is taken, or the only prior it has.

    Raises:
        ValueError: no prior, or no single one, is meant.
    """
    if Path(init).is_file():
        return Path(init)
    if str(init).endswith(".safetensors"):
        raise ValueError(f"--init {init}: there is no such file")
    for organ, _, name in ((str(init), "", ""), str(init).rpartition("/")):
        try:
            pack = OrganPack.load(organ)
        except OrganError:
            continue
        names = [s.name for s in pack.structures]
        single = len({s.prior for s in pack.structures}) == 1
        wanted = name or (structure if structure in names else names[0] if single else "")
        if wanted in names:
            return pack.structure(wanted).prior
        raise ValueError(f"--init {init}: name the structure, {pack.name}/<one of {', '.join(names)}>")
    raise ValueError(f"--init {init}: neither a .safetensors file nor an organ of models/ nor <organ>/<structure>")


def start_field(field: DeformTemplateField, init: str | Path | None, structure: str = "") -> DeformTemplateField:
    """The field, with the weights of an existing prior where one is given.

    Template, deform net and hyper-network are taken over. Codes are new; they may be of another size and mean other
    things, but as both are the shapes' principal components in order, the weights of leading components are taken
    over as far as both have them, and those of further ones stay as they were drawn.

    Args:
        field: untrained field.
        init: see `find_prior`; None leaves the field as it is.
        structure: name of the structure to be trained.

    Raises:
        ValueError: the prior's field is of another architecture, or see `find_prior`.
    """
    if init is None:
        return field
    file = find_prior(init, structure)
    known = ShapePrior.load(file).field
    differing = {
        key: (value, field.settings[key])
        for key, value in known.settings.items()
        if key not in CODE_SETTINGS and value != field.settings[key]
    }
    if differing:
        options = " ".join(f"--{key} {theirs}" for key, (theirs, _) in differing.items())
        raise ValueError(f"cannot start from {file}: its field is of another make; add {options}")
    old, new = known.state_dict(), field.state_dict()
    fan_out = deform_layer_sizes(field.code_dim, int(str(field.settings["hidden"])), field.n_layers)[0][1]
    full = field.settings["hyper"] == "full"
    head = FIRST_LAYER_HEAD[str(field.settings["hyper"])]
    for name, target in new.items():
        source = old[name]
        if full and name.startswith(head):
            _overlap(_by_unit(source, 3 + known.code_dim, fan_out), _by_unit(target, 3 + field.code_dim, fan_out))
            target[-fan_out:] = source[-fan_out:]
            continue
        _overlap(source, target)
        if name.startswith(head):  # the low-rank network scales its bias offsets by 1 / sqrt(inputs)
            target[fan_out : 2 * fan_out] *= math.sqrt((3 + field.code_dim) / (3 + known.code_dim))
    field.load_state_dict(new)
    return field


def _overlap(source: Tensor, target: Tensor) -> None:
    """Copy what two tensors of the same rank have in common, from the first entry on."""
    common = tuple(slice(0, min(a, b)) for a, b in zip(source.shape, target.shape, strict=True))
    with torch.no_grad():
        target[common] = source[common]


def _by_unit(flat: Tensor, fan_in: int, fan_out: int) -> Tensor:
    """View of the part that gives the first deform layer's weight, of (out · in + out, ...), as (out, in, ...)."""
    return flat[: fan_in * fan_out].view(fan_out, fan_in, *flat.shape[1:])
