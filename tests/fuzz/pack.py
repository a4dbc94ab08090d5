"""The fuzzer's organ pack: an egg whose prior is trained in seconds, refined with few points and steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.helpers import tiny_run
from tests.helpers.ellipsoid_files import ellipsoid_radii, write_ellipsoids

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {
    "warm_up_steps": 20,
    "max_epochs": 1,
    "epoch_length": 15,
    "held_out_steps": 5,
    "val_interval": 1,
    "val_steps": 5,
}
FEW = {"samples": 200, "code_steps": 4, "weight_steps": 2}


def sound_settings() -> dict[str, Any]:
    """Return what stands in the pack's organ.yaml."""
    return {
        "name": "egg",
        "description": "an egg",
        "labels": {1: "egg"},
        "spacing_mm": [1.0, 1.0, 1.0],
        "intensity": {"kind": "window", "low": 0, "high": 2},
        "structures": [{"name": "egg", "labels": [1], "prior": "egg.safetensors", "mirror": "never"}],
        "sources": {"other": {"ovum": "egg", 5: "egg"}},
        "provenance": {"dataset": "made up", "licence": "none needed"},
        "refine": dict(FEW),
    }


def write_fuzz_pack(folder: Path) -> Path:
    """Train the pack and return its folder, `<folder>/egg`."""
    labels, pack = folder / "labels", folder / "egg"
    pack.mkdir(parents=True, exist_ok=True)
    train = write_ellipsoids(labels, ellipsoid_radii(4, seed=0))
    held_out = write_ellipsoids(labels, ellipsoid_radii(1, seed=1), first=4)
    split = {"train": [f.name for f in train], "validation": [f.name for f in held_out]}
    (pack / "organ.yaml").write_text(yaml.safe_dump(sound_settings() | {"split": split}), encoding="utf-8")
    tiny_run.run(ROOT, folder, pack, folder, **TRAINING)
    (folder / "prior.safetensors").rename(pack / "egg.safetensors")
    (pack / "organ.yaml").write_text(yaml.safe_dump(sound_settings()), encoding="utf-8")
    return pack
