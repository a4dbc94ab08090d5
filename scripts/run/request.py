"""What a run, or a host's request, asks for: checked before anything is built of it."""

from __future__ import annotations

import shlex
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..cases.errors import CaseError
from ..cases.sources import LabelSource
from ..organ.checks import shown
from ..organ.pack import OrganError, OrganPack, known_organs
from ..refine.chain import Refiner
from ..refine.settings import known_presets
from ..unet.network import check_unet, network_file
from .options import TRUE, choice, is_true

FROM_LABEL = " (current label)"  # ending of an organ that a host's menu offers without a U-Net


class BadRequest(CaseError):
    """The request asks for something that is not there."""


@dataclass(frozen=True)
class Request:
    """What is asked for, and all that was read to answer it.

    Attributes:
        problem: why it cannot be met, as a message that says what to do; "" if it can.
        pack: the organ's pack; the default organ's where there is a problem. A host builds all transforms before it
            runs the first, which is the one that can answer it: `CheckRequestd`.
        labels: how the masks' labels are read.
        refiner: of the organ; None where no refinement is asked for, or there is a problem.
        has_mask: whether a mask is given, so that no U-Net is needed.
        sparse: whether that mask is one of a few drawn slices.
        enlarged: whether disease may have enlarged the organs, see `TIMSampled`.
    """

    problem: str
    pack: OrganPack
    labels: LabelSource
    refiner: Refiner | None = None
    has_mask: bool = False
    sparse: bool = False
    enlarged: bool = False

    @classmethod
    def of(
        cls,
        organ: str | Path | OrganPack,
        preset: str = "default",
        refine: object = True,
        current_label: object = True,
        sparse: object = False,
        enlarged: object = False,
        source: str = "",
        device: str | torch.device = "cpu",
        seed: int = 0,
        network: str | None = "",
        inward_mm: object = "",
        second_reader: object = True,
    ) -> Request:
        """Read the organ pack and, where masks are to be refined, presets, priors and networks.

        Args:
            organ: an organ pack, its name, or its path.
            preset: of the refinement.
            refine: whether masks are refined, which takes the preset and the pack's priors.
            current_label: whether a mask is given; if not, the organ's U-Net must be there. That of the default organ
                need not be: who runs the bundle has it, perhaps as TorchScript alone.
            sparse: whether that mask is one of a few drawn slices, see `FillDrawnd`.
            enlarged: whether disease may have enlarged the organs, see `TIMSampled`.
            source: whose labels the masks have, see `sources`.
            device: where priors, fields, voxel heads and the U-Net are evaluated.
            seed: of the refinement.
            network: name of the network that makes masks in place of the U-Net; its weights must be there.
            inward_mm: by how much masks are taken inward before they are refined, see `inward.read_inward`.
            second_reader: whether the pack's U-Net reads images, too, since it has not made the masks.
        """
        try:
            pack = organ if isinstance(organ, OrganPack) else OrganPack.load(organ)
            labels = LabelSource.of(pack, str(source or ""))
            has_mask = is_true(current_label) or is_true(sparse)
            if is_true(sparse) and not is_true(refine):
                raise BadRequest("sparse: drawn slices become an organ by refinement: leave out refine false")
            on = host_device(device)
            refiner = None
            if is_true(refine):
                refiner = Refiner(pack, preset, on, seed, inward_mm=inward_mm, second=is_true(second_reader))
            if not has_mask:
                check_unet(pack)
            if not has_mask and not has_unet(pack, network):
                option = f" --organ {pack.name if isinstance(organ, OrganPack) else shlex.quote(str(organ))}"
                option += f" --network_name {network}" if network else ""
                raise OrganError(
                    f"organ '{pack.name}' has no {network or 'U-Net'}, {network_file(pack, network)} is missing: train "
                    f"it (shape-refine train{option}, configs/train.yaml), or refine masks that are there"
                )
        except (ValueError, FileNotFoundError, BadRequest) as error:
            pack = OrganPack.load(known_organs()[0])
            return cls(str(error), pack, LabelSource(pack))
        return cls("", pack, labels, refiner, has_mask, is_true(sparse), is_true(enlarged))

    def require(self) -> Request:
        """Return the request, if it can be met.

        Raises:
            SystemExit: it cannot; with the message.
        """
        if self.problem:
            raise SystemExit(f"Error: {self.problem}")
        return self


class OpenRequest:
    """What a config asks for, until a host's own options go before it.

    A host's options are data. They come in the dictionary with the image, are compared with what is known, and are
    never parsed. So they are there when the first transform runs (`CheckRequestd`), and what depends on them is decided
    after that.

    Args:
        organ: name of an organ pack, or its path. A host can only name those of `models/`.
        preset: of the refinement.
        refine: whether masks are refined.
        current_label: whether a mask is given.
        sparse: whether that is one of a few drawn slices.
        enlarged: whether disease may have enlarged the organs.
        seed: of the refinement.
        network: name of the network that makes masks in place of the U-Net.
        inward_mm: by how much masks are taken inward before they are refined, see `inward`.

    Attributes:
        asked: the options, by name.
        device: where priors, fields and networks are evaluated: CUDA where there is such, until `on` or a host names
            another. No config gives it to this object, since MONAI Label writes the request's into the config.
    """

    def __init__(
        self,
        organ: str | Path,
        preset: str = "default",
        refine: object = True,
        current_label: object = False,
        sparse: object = False,
        enlarged: object = False,
        seed: int = 0,
        network: str | None = "",
        inward_mm: object = "",
    ) -> None:
        self.asked: dict[str, Any] = {
            "organ": organ,
            "preset": preset,
            "refine": refine,
            "current_label": current_label,
            "sparse": sparse,
            "enlarged": enlarged,
            "network": network,
        }
        self.device: str | torch.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.seed = seed
        self.organ, self.inward_mm = organ, inward_mm

    @cached_property
    def settled(self) -> Request:
        """The request, read once; from then on it cannot be changed."""
        second = bool(self.asked["network"])  # a host's label, too, most often began as a mask of the pack's U-Net
        asked = {**self.asked, "inward_mm": self.inward, "second_reader": second}
        return Request.of(**asked, device=self.device, seed=self.seed)

    @property
    def inward(self) -> object:
        """The depth, where it is meant: for masks of the network that the config names, not for labels of a host."""
        given = (str(self.asked[name]).strip().lower() in TRUE for name in ("current_label", "sparse"))
        return "" if any(given) or self.asked["organ"] != self.organ else self.inward_mm

    def on(self, device: str | torch.device) -> None:
        """Set the device, for who runs the config without a host."""
        self.device = device

    def take(self, data: Mapping[Hashable, Any]) -> None:
        """Let the options that stand in the data go before the config's.

        Raises:
            BadRequest: an option is none of the known values, or comes after something was built of another.
        """
        asked = {**self.asked, **host_options(data)}
        if asked != self.asked and "settled" in vars(self):
            raise BadRequest(
                "the options come too late: this host has built the whole chain before the first transform; set them "
                "in the config"
            )
        self.asked = asked
        if "device" in data:
            self.device = host_device(data["device"])


def has_unet(pack: OrganPack, network: str | None = "") -> bool:
    """Return whether images can be segmented with a pack; of the default organ the host holds the U-Net."""
    return (pack.default and not network) or Path(network_file(pack, network)).is_file()


def offered_organs() -> list[str]:
    """Return the organs that a host's menu offers, the default organ first, then those with a U-Net.

    An organ with priors alone is offered as `<organ> (current label)`, and asks for the refinement of that label. What
    can do neither, and what cannot be read, is not offered.
    """
    segment, refine = [], []
    for name in known_organs():
        try:
            pack = OrganPack.load(name)
        except OrganError:
            continue
        if has_unet(pack):
            segment.append(name)
        elif pack.is_trained:
            refine.append(name + FROM_LABEL)
    return segment + refine


def host_options(data: Mapping[Hashable, Any]) -> dict[str, Any]:
    """Return the options that a host has put into the data; they are compared with known values, and nothing else.

    Raises:
        BadRequest: one is none of the known values.
    """
    options: dict[str, Any] = {}
    from_label = False
    choices = (("organ", "no organ pack", known_organs()), ("preset", "unknown preset", known_presets()))
    for name, words, known in choices:
        if name in data:
            options[name] = choice(data[name])
            if name == "organ" and isinstance(options[name], str) and options[name].endswith(FROM_LABEL):
                options[name] = options[name].removesuffix(FROM_LABEL)
                from_label = True
            if not isinstance(options[name], str) or options[name] not in known:
                said = shown(str(options[name]))
                raise BadRequest(f"{name}: {words} {said}; choose one of {', '.join(known)}")
    if from_label:
        data = {**data, "current_label": True}
    for name in ("refine", "current_label", "sparse", "enlarged"):
        if name in data:
            try:
                options[name] = is_true(data[name])
            except ValueError:
                raise BadRequest(
                    f"{name}: {shown(str(data[name]))} is neither true nor false: write one of them"
                ) from None
    return options


def host_device(value: object) -> torch.device:
    """Return the device that a host's text names.

    Raises:
        BadRequest: there is none of that name.
    """
    try:
        device = torch.device(str(value))
    except RuntimeError:
        raise BadRequest(f"device: there is no device {shown(str(value))}: write cpu or cuda") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise BadRequest(f"device: there is no {device} here ({there} CUDA devices are seen): write cpu or another")
    return device


class CheckRequestd(MapTransform):
    """Takes a host's options, and refuses a request that cannot be met; changes nothing of the data.

    Args:
        keys: ignored.
        request: takes the options.

    Raises:
        BadRequest: there is a problem.
    """

    def __init__(self, keys: KeysCollection, request: OpenRequest) -> None:
        super().__init__(keys)
        self.request = request

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data unchanged."""
        self.request.take(data)
        if self.request.settled.problem:
            raise BadRequest(self.request.settled.problem)
        return dict(data)


CheckRequestD = CheckRequestDict = CheckRequestd
