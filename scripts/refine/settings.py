"""Tunables of the refinement, by preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..organ.checks import OrganError, flag, number, one_of, shown, whole
from ..organ.fields import checked, read, setting
from ..organ.pack import ORGAN_FILE, PRESETS, OrganPack, Structure
from ..organ.yaml_file import read_yaml

METHODS = ("robust", "linear", "paper")
DEFAULT = "default"
LONGEST_MM = 1000.0
IN_ORDER = (("across_cosine", "along_cosine"),)

_length = number(0, LONGEST_MM)
_radii = number(0, 100)
_share = number(0, 1)
_steps = whole(0, 10_000)
_rate = number(1e-9, 10)
_weight = number(0, 1e9)
_cosine = number(-3, 1)  # below -1: of every normal


def known_presets() -> list[str]:
    """Return the names of the presets; "default" is the first."""
    return sorted(read_yaml(PRESETS), key=lambda name: (name != DEFAULT, name))


@dataclass(frozen=True)
class RefineSettings:
    """Settings of one refinement; `configs/presets.yaml` explains and sets each."""

    method: str = setting(one_of(METHODS))
    samples: int = setting(whole(10, 100_000))
    alignment_points: int = setting(whole(10, 10_000))
    keep_share: float = setting(number(0.001, 1))
    context: bool = setting(flag)
    loss_scale_mm: float = setting(number(0.001, LONGEST_MM))
    code_steps: int = setting(_steps)
    code_rate: float = setting(_rate)
    code_penalty: float = setting(_weight)
    weight_steps: int = setting(_steps)
    weight_rate: float = setting(_rate)
    weight_penalty: float = setting(_weight)
    across_cosine: float = setting(_cosine)
    along_cosine: float = setting(_cosine)
    fusion: bool = setting(flag)
    tau_mm: float = setting(_length)
    gate: bool = setting(flag)
    min_region_mm3: float = setting(number(0, 1e9))
    slab_mm: float = setting(number(0.1, LONGEST_MM))
    island_radii: float = setting(_radii)
    excess_radii: float = setting(_radii)
    missing_radii: float = setting(_radii)
    sound_share: float = setting(_share)
    sound_dice: float = setting(_share)
    reach_mm: float = setting(number(0, 100))
    smooth_mm: float = setting(number(0, 20))

    @classmethod
    def load(
        cls,
        preset: str = DEFAULT,
        pack: OrganPack | None = None,
        structure: Structure | None = None,
        **overrides: Any,
    ) -> RefineSettings:
        """Return the settings of a preset of `configs/presets.yaml`.

        What the organ pack says under `refine`, and then what it says there of the structure, replaces the default's
        values (lengths depend on the organ's size); the preset's own values replace those, and `overrides` all.

        Raises:
            OrganError: unknown preset or key, a value of another type or out of its range, or limits that are not in
                order.
        """
        return cls._resolve(_presets(), preset, pack, structure, overrides)

    @classmethod
    def of_pack(cls, pack: OrganPack, preset: str = DEFAULT) -> dict[str, RefineSettings]:
        """Return structure name → its settings, see `load`; the presets are read once.

        Raises:
            OrganError: see `load`.
        """
        presets = _presets()
        return {own.name: cls._resolve(presets, preset, pack, own, {}) for own in pack.structures}

    @classmethod
    def _resolve(
        cls,
        presets: Mapping[str, Any],
        preset: str,
        pack: OrganPack | None,
        structure: Structure | None,
        overrides: Mapping[str, Any],
    ) -> RefineSettings:
        if not isinstance(preset, str) or preset not in presets:
            raise OrganError(f"unknown preset {shown(preset)}; choose one of {', '.join(map(str, presets))}")
        file = pack.file if pack is not None else ORGAN_FILE
        organ = pack.refine if pack is not None else {}
        name, own = (structure.name, structure.refine) if structure is not None else ("", {})
        layers = [
            (presets[DEFAULT], f"{PRESETS}: {DEFAULT}"),
            (organ, f"{file}: refine"),
            (own, f"{file}: structures: {name}: refine"),
            ({} if preset == DEFAULT else presets[preset], f"{PRESETS}: {preset}"),
            (overrides, "settings"),
        ]
        values: dict[str, Any] = {}
        for layer, where in layers:
            values |= checked(cls, layer, where)
        settings = read(cls, values, f"{PRESETS}: {DEFAULT}")
        for below, above in IN_ORDER:
            if getattr(settings, below) >= getattr(settings, above):
                where = next(where for layer, where in reversed(layers) if below in layer or above in layer)
                raise OrganError(f"{where}: {below} must be below {above}")
        return settings


def _presets() -> dict[Any, Any]:
    presets = read_yaml(PRESETS)
    if DEFAULT not in presets:
        raise OrganError(f"{PRESETS} lacks the preset '{DEFAULT}'")
    return presets
