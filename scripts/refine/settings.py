"""Tunables of the refinement, by preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import yaml

from ..organ.pack import PRESETS, OrganPack, Structure

METHODS = ("robust", "linear", "paper")


def known_presets() -> list[str]:
    """Return the names of the presets; "default" is the first."""
    return sorted(_read_presets(), key=lambda name: (name != "default", name))


@dataclass(frozen=True)
class RefineSettings:
    """Settings of one refinement; `configs/presets.yaml` explains and sets each."""

    method: str
    samples: int
    alignment_points: int
    keep_share: float
    context: bool
    loss_scale_mm: float
    code_steps: int
    code_rate: float
    code_penalty: float
    weight_steps: int
    weight_rate: float
    weight_penalty: float
    across_cosine: float
    along_cosine: float
    fusion: bool
    tau_mm: float
    tau_evidence_mm: float
    gate: bool
    min_region_mm3: float
    slab_mm: float
    island_mm: float
    excess_mm: float
    missing_mm: float
    sound_share: float
    sound_dice: float
    sure_present: float
    sure_absent: float
    seen_excess_mm: float
    seen_missing_mm: float
    alone_dice: float
    plausible_dice: float
    poor_dice: float
    reach_mm: float
    smooth_mm: float

    @classmethod
    def load(
        cls,
        preset: str = "default",
        pack: OrganPack | None = None,
        structure: Structure | None = None,
        **overrides: Any,
    ) -> RefineSettings:
        """Return the settings of a preset of `configs/presets.yaml`.

        What the organ pack says under `refine`, and then what it says there of the structure, replaces the default's
        values (lengths depend on the organ's size); the preset's own values replace those, and `overrides` all.

        Raises:
            ValueError: unknown preset, key or method, or limits that are not in order.
        """
        return cls._resolve(_read_presets(), preset, pack, structure, overrides)

    @classmethod
    def of_pack(cls, pack: OrganPack, preset: str = "default") -> dict[str, RefineSettings]:
        """Return structure name → its settings, see `load`; the presets are read once."""
        presets = _read_presets()
        return {s.name: cls._resolve(presets, preset, pack, s, {}) for s in pack.structures}

    @classmethod
    def _resolve(
        cls,
        presets: Mapping[str, Mapping[str, Any]],
        preset: str,
        pack: OrganPack | None,
        structure: Structure | None,
        overrides: Mapping[str, Any],
    ) -> RefineSettings:
        if preset not in presets:
            raise ValueError(f"unknown preset '{preset}'; choose one of {', '.join(presets)}")
        organ = pack.settings.get("refine", {}) if pack is not None else {}
        own = structure.refine if structure is not None else {}
        special = presets[preset] if preset != "default" else {}
        values = {**presets["default"], **organ, **own, **special, **overrides}
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}; {PRESETS.name} lists all there are")
        settings = cls(**values)
        if settings.method not in METHODS:
            raise ValueError(f"unknown method '{settings.method}'; choose one of {', '.join(METHODS)}")
        if settings.across_cosine >= settings.along_cosine:
            raise ValueError("across_cosine must be below along_cosine")
        return settings


def _read_presets() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(PRESETS.read_text())
