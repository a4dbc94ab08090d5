"""Ellipsoids as label maps and as samples, with closed-form answers."""

from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

from scripts.organ.pack import Structure

EGG = [Structure("egg", (1,), Path("egg.safetensors"))]
SPACING_MM = np.array([1.0, 1.0, 2.0])


def ellipsoid_mask(radii_mm: np.ndarray, shape: tuple[int, int, int] = (40, 40, 20)) -> np.ndarray:
    """Label map (X, Y, Z) uint8, 1 inside an axis-aligned ellipsoid at the grid's centre."""
    centre = (np.array(shape) - 1) / 2
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return ((((index - centre) * SPACING_MM / radii_mm) ** 2).sum(-1) <= 1).astype(np.uint8)


def write_ellipsoids(folder: Path, radii_mm: np.ndarray, first: int = 0) -> list[Path]:
    """Write one label map an ellipsoid, radii (S, 3), on an anisotropic grid with a flipped axis."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = [50.0, -20.0, 7.0]
    files = []
    for index, radii in enumerate(radii_mm):
        files.append(folder / f"case_{first + index:02d}.nii.gz")
        nib.save(nib.Nifti1Image(ellipsoid_mask(radii), affine), files[-1])
    return files


def ellipsoid_radii(count: int, seed: int) -> np.ndarray:
    """Random radii (count, 3) in mm around (10, 14, 12)."""
    return np.array([10.0, 14.0, 12.0]) * np.random.default_rng(seed).uniform(0.85, 1.15, size=(count, 3))


def write_organ(folder: Path) -> tuple[Path, Path]:
    """Write an organ pack with a split, and the folder that holds its label maps and cached samples; return both."""
    pack, cache = folder / "pack", folder / "data"
    pack.mkdir(parents=True)
    train = write_ellipsoids(cache / "labels", ellipsoid_radii(6, seed=0))
    held_out = write_ellipsoids(cache / "labels", ellipsoid_radii(2, seed=1), first=6)
    settings = {
        "name": "egg",
        "labels": {1: "egg"},
        "structures": [{"name": "egg", "labels": [1]}],
        "split": {"train": [f.name for f in train], "validation": [f.name for f in held_out]},
        "provenance": {"licence": "none needed"},
    }
    (pack / "organ.yaml").write_text(yaml.safe_dump(settings))
    return pack, cache
