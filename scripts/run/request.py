"""What a run, or a host's request, asks for: checked before anything is built of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..cases.io import CaseError
from ..cases.sources import LabelSource
from ..organ.pack import OrganPack, known_organs
from ..refine.settings import RefineSettings
from ..unet.network import network_file
from .options import is_true


class BadRequest(CaseError):
    """The request asks for something that is not there."""


def find_problem(
    organ: str | Path,
    preset: str = "default",
    refine: object = True,
    current_label: object = True,
    source: str = "",
) -> str:
    """Return why a request cannot be met, as a message that says what to do; "" if it can.

    Args:
        organ: name of an organ pack, or its path.
        preset: of the refinement.
        refine: whether masks are refined, which takes the preset and the pack's priors.
        current_label: whether a mask is given; if not, the organ's U-Net must be there. That of the default organ need
            not be: who runs the bundle has it, perhaps as TorchScript alone.
        source: whose labels the masks have, see `sources`.
    """
    try:
        pack = OrganPack.load(organ)
        LabelSource.of(pack, source)
        refines, has_mask = is_true(refine), is_true(current_label)
        if refines:
            RefineSettings.load(preset)
    except ValueError as error:
        return str(error)
    priors = dict.fromkeys(s.prior for s in pack.structures)  # structures may share one
    missing = [str(prior) for prior in priors if not prior.is_file()] if refines else []
    if missing:
        return f"no shape prior {', '.join(missing)}: train it with configs/train_prior.yaml"
    if not has_mask and not pack.settings.get("default", False) and not Path(network_file(pack)).is_file():
        return (
            f"organ '{pack.name}' has no U-Net, {network_file(pack)} is missing: train it with configs/train.yaml, or "
            "refine masks that are there"
        )
    return ""


def pack_of(organ: str | Path, problem: str) -> OrganPack:
    """Return the organ's pack, or the default organ's where there is a problem.

    A host builds all transforms before it runs the first, which is the one that can answer it: `CheckRequestd`.
    """
    return OrganPack.load(known_organs()[0] if problem else organ)


class CheckRequestd(MapTransform):
    """Refuses a request that cannot be met; changes nothing.

    Args:
        keys: ignored.
        problem: why it cannot be met (`find_problem`); "" if it can.

    Raises:
        BadRequest: there is a problem.
    """

    def __init__(self, keys: KeysCollection = "image", problem: str = "") -> None:
        super().__init__(keys)
        self.problem = problem

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data unchanged."""
        if self.problem:
            raise BadRequest(self.problem)
        return dict(data)


CheckRequestD = CheckRequestDict = CheckRequestd


def require_organ(organ: str | Path, preset: str = "", network: bool = False, source: str = "") -> None:
    """Stop the run with a plain message where there is no such organ pack or, with a preset, no way to refine.

    Args:
        organ: name of an organ pack, or its path.
        preset: of the refinement; "" where none is asked for.
        network: whether the organ's U-Net is needed.
        source: whose labels the masks have, see `sources`.

    Raises:
        SystemExit: with the message.
    """
    problem = find_problem(organ, preset, refine=bool(preset), current_label=not network, source=source)
    if problem:
        raise SystemExit(f"Error: {problem}")
