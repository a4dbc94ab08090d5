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
BY_SIZE = "it follows from the radius of the prior's typical shape: scripts/refine/lengths.py"
GONE = {
    "tau_mm": BY_SIZE,
    "reach_mm": BY_SIZE,
    "min_region_mm3": BY_SIZE,
    "smooth_mm": "it is SMOOTH_MM in scripts/refine/draw_mesh.py",
    "alignment_points": "it is ALIGNMENT_POINTS in scripts/refine/steps.py",
    "code_rate": "each method has its own: CODE_RATE in scripts/refine/finetune.py and paper_fit.py",
    "code_penalty": "it is CODE_PENALTY in scripts/refine/finetune.py, a tenth of what stood here",
    "weight_rate": "each method has its own: WEIGHT_RATE in scripts/refine/finetune.py and paper_fit.py",
    "weight_penalty": "it is WEIGHT_PENALTY in scripts/refine/finetune.py, a hundredth of what stood here",
    "across_cosine": "it is ACROSS_COSINE in scripts/refine/finetune.py",
    "along_cosine": "it is ALONG_COSINE in scripts/refine/finetune.py",
    "slab_mm": "it is SLAB_MM in scripts/refine/fusion.py",
    "sound_share": "it is SOUND_SHARE in scripts/refine/fusion.py",
    "sound_dice": "it is SOUND_DICE in scripts/refine/fusion.py",
}  # settings of earlier versions that nobody varied: key -> what became of it

_radii = number(0, 100)
_steps = whole(0, 10_000)


def known_presets() -> list[str]:
    """Return the names of the presets; "default" is the first."""
    return sorted(read_yaml(PRESETS), key=lambda name: (name != DEFAULT, name))


@dataclass(frozen=True)
class RefineSettings:
    """Settings of one refinement; `configs/presets.yaml` explains and sets each."""

    method: str = setting(one_of(METHODS))
    samples: int = setting(whole(10, 100_000))
    keep_share: float = setting(number(0.01, 1))
    context: bool = setting(flag)
    loss_scale_mm: float = setting(number(0.001, 1000))
    code_steps: int = setting(_steps)
    weight_steps: int = setting(_steps)
    fusion: bool = setting(flag)
    gate: bool = setting(flag)
    island_radii: float = setting(_radii)
    excess_radii: float = setting(_radii)
    missing_radii: float = setting(_radii)

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
        values; the preset's own values replace those, and `overrides` all.

        Raises:
            OrganError: unknown preset or key, a key that is no setting any more, or a value of another type or out
                of its range.
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
            gone = [key for key in layer if key in GONE] if isinstance(layer, dict) else []
            if gone:
                raise OrganError(f"{where}: {gone[0]} is no setting any more: remove it ({GONE[gone[0]]})")
            values |= checked(cls, layer, where)
        return read(cls, values, f"{PRESETS}: {DEFAULT}")


def _presets() -> dict[Any, Any]:
    presets = read_yaml(PRESETS)
    if DEFAULT not in presets:
        raise OrganError(f"{PRESETS} lacks the preset '{DEFAULT}'")
    return presets
