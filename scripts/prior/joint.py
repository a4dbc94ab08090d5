"""The joint shape model: how the structures of one organ pack vary together, in one frame with one pose.

An SDF-PCA over the concatenated signed distance grids of all structures, each on the box where it occurs. Fitted to
what a CNN found of all of them, it predicts where a structure that is broken or partly missing must go on: context.
The joint frame has the world's axes, its origin at the centroid of the structures, and is in millimetres of the mean
patient.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from scipy import ndimage

from ..cases.files import whole_file
from ..geometry.affine import Similarity, box_affine
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import crop_box, mask_signed_distance
from .linear import LinearShapeModel, check_linear, principal_modes
from .tensor_file import open_tensors

# Lengths are shares of the mean patient's radius, up to a most that suits a thorax.
SPACING, MOST_SPACING_MM = 0.11, 6.5
FINE, MOST_FINE_MM = 0.027, 2.0  # spacing at which masks are measured
MARGIN, MOST_MARGIN_MM = 0.34, 25.0  # how far a structure's box goes beyond where the structure occurs
CLAMP, MOST_CLAMP_MM = 0.27, 20.0  # of signed distances
DEFORMATION, MOST_DEFORMATION_MM = 0.068, 5.0  # standard deviation of the random displacements
WAVE, MOST_WAVE_MM = 1.62, 120.0  # length over which they vary


@dataclass
class JointPart:
    """One structure of a joint model: a linear model around `centre`, (3,) in the joint frame, mm."""

    centre: torch.Tensor
    model: LinearShapeModel


@dataclass
class JointShapeModel:
    """Linear models of several structures that share their scores.

    Attributes:
        parts: structure name → its part; all have the same number of modes and the same std.
        radius_mm: root mean square distance of the structures' voxels from the origin, for the moment-based start.
        card: what it was trained on.
    """

    parts: dict[str, JointPart]
    radius_mm: float
    card: dict[str, Any]

    @property
    def n_modes(self) -> int:
        """Number of shared modes K."""
        return next(iter(self.parts.values())).model.n_modes

    def start(self, points_world: dict[str, np.ndarray]) -> Similarity:
        """Return the moment-based start, world → joint frame, from surface points (N, 3) of each structure found.

        The centroid of each structure found is put on that of the mean shape; the scale stays 1.
        """
        shifts = [self.parts[name].centre.numpy() - p.mean(0) for name, p in points_world.items()]
        return Similarity(1.0, np.eye(3), np.median(shifts, 0))

    @classmethod
    def train(
        cls,
        cases: list[dict[str, tuple[np.ndarray, np.ndarray]]],
        n_modes: int = 30,
        deformed_copies: int = 5,
        seed: int = 0,
    ) -> JointShapeModel:
        """Fit a joint model.

        Args:
            cases: per case, structure name → (mask (X, Y, Z) bool, affine); structures may be missing in a case (the
                mean of the others stands in).
            n_modes: shared modes to keep.
            deformed_copies: smooth random deformations of every case that are added: few shapes limit a model.
            seed: seed of the deformations.

        Raises:
            ValueError: fewer than two cases.
        """
        if len(cases) < 2:
            raise ValueError("a joint shape model needs at least two cases")
        names = sorted({name for case in cases for name in case})
        poses = [_pose(case) for case in cases]
        mean_radius = float(np.mean([radius for _, radius in poses]))
        spacing_mm, margin_mm = min(SPACING * mean_radius, MOST_SPACING_MM), min(MARGIN * mean_radius, MOST_MARGIN_MM)
        clamp_mm = min(CLAMP * mean_radius, MOST_CLAMP_MM)
        fine_mm = min(FINE * mean_radius, MOST_FINE_MM)
        deformation_mm = min(DEFORMATION * mean_radius, MOST_DEFORMATION_MM)
        wave_mm = min(WAVE * mean_radius, MOST_WAVE_MM)
        volumes = [{n: _distance_volume(*case[n], fine_mm, clamp_mm) for n in names if n in case} for case in cases]
        frames = [Similarity(mean_radius / r, np.eye(3), -centre * mean_radius / r) for centre, r in poses]
        rng = np.random.default_rng(seed)
        parts: dict[str, JointPart] = {}
        rows, weights = [], []
        warps = [
            [_random_warp(rng, deformation_mm, wave_mm) if k else None for k in range(deformed_copies + 1)]
            for _ in cases
        ]
        for name in names:
            inside = [f.apply(v[name][2]) for f, v in zip(frames, volumes, strict=True) if name in v]
            box = WorldGrid.from_box(
                np.min([p.min(0) for p in inside], 0) - margin_mm,
                np.max([p.max(0) for p in inside], 0) + margin_mm,
                spacing_mm,
            )
            points = box.points_world().reshape(-1, 3)
            values = np.full((len(cases), deformed_copies + 1, len(points)), np.nan, np.float32)
            for c, (frame, volume) in enumerate(zip(frames, volumes, strict=True)):
                for k, warp in enumerate(warps[c]) if name in volume else []:
                    moved = points if warp is None else points + warp(points)
                    values[c, k] = _sample(*volume[name][:2], frame.inverse().apply(moved)) * frame.scale
            flat = torch.from_numpy(values.reshape(-1, len(points))).clamp(-clamp_mm, clamp_mm)
            flat = torch.where(flat.isnan(), flat.nanmean(0, keepdim=True), flat)
            mean = flat.mean(0)
            rows.append(flat - mean)
            weights.append(1.0 / float(rows[-1].pow(2).sum(1).mean().sqrt()))
            extent = torch.tensor((np.array(box.shape) - 1) / 2 * spacing_mm, dtype=torch.float32)
            centre = torch.tensor((points.min(0) + points.max(0)) / 2, dtype=torch.float32)
            parts[name] = JointPart(
                centre, LinearShapeModel(mean.view(box.shape), torch.zeros(0), torch.zeros(0), extent)
            )
        weighted = torch.cat([r * w for r, w in zip(rows, weights, strict=True)], 1)
        modes, std = principal_modes(weighted, n_modes)
        for name, row, weight in zip(names, rows, weights, strict=True):
            own, modes = modes[:, : row.shape[1]] / weight, modes[:, row.shape[1] :]
            model = parts[name].model
            parts[name].model = LinearShapeModel(model.mean, own.view(-1, *model.mean.shape), std, model.extent)
        return cls(parts, mean_radius, {"cases": len(cases), "modes": len(std), "seed": seed})

    def save(self, path: Path) -> None:
        """Write the model as safetensors, grids as `LinearShapeModel.state` gives them, its card in the header."""
        tensors = {}
        for name, part in self.parts.items():
            tensors[f"{name}.centre"] = part.centre
            tensors.update({f"{name}.{key}": value.contiguous() for key, value in part.model.state().items()})
        card = json.dumps({**self.card, "radius_mm": self.radius_mm}, sort_keys=True)
        with whole_file(path) as temporary:
            save_file(tensors, temporary, metadata={"card": card})

    @classmethod
    def load(cls, path: Path) -> JointShapeModel:
        """Read a model that `save` wrote.

        Raises:
            BrokenFile: the file is no joint model, or its tensors do not fit together.
        """
        with open_tensors(path, "card") as file:
            radius_mm = file.length(file.header, "radius_mm")
            names = sorted({key.rpartition(".")[0] for key in file.shapes})
            modes = {check_linear(file, f"{name}.") for name in names}
            file.require(len(modes) == 1, "its structures differ in their number of modes")
            file.require_shapes({f"{name}.centre": (3,) for name in names})
            tensors, card = file.tensors(), file.header
        parts = {}
        for name in names:
            own = {key.rpartition(".")[2]: value for key, value in tensors.items() if key.rpartition(".")[0] == name}
            parts[name] = JointPart(own.pop("centre"), LinearShapeModel.from_state(own))
        return cls(parts, radius_mm, card)


def _distance_volume(
    mask: np.ndarray, affine: np.ndarray, step_mm: float, reach_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance (mm) of a mask on a grid around it, that grid's affine, and inside points (N, 3) world."""
    box = crop_box(mask, 2)
    shifted = box_affine(affine, [s.start for s in box])
    part = mask[box]
    cover = WorldGrid.covering(shifted, part.shape, step_mm)
    pad = int(np.ceil(1.5 * reach_mm / step_mm))
    wide = cover.affine.copy()
    wide[:3, 3] -= step_mm * pad
    grid = WorldGrid(wide, tuple(n + 2 * pad for n in cover.shape))  # type: ignore[arg-type]
    inside = resample(part.astype(np.float32), shifted, grid, order=1) > 0.5
    points = np.argwhere(inside) * step_mm + wide[:3, 3]
    return mask_signed_distance(inside, np.full(3, step_mm)), wide, points


def _pose(case: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, float]:
    """Centroid (3,) and root mean square radius, world mm, every structure weighing the same."""
    centroids, second = [], []
    for mask, affine in case.values():
        points = np.argwhere(mask)[::7] @ affine[:3, :3].T + affine[:3, 3]
        centroids.append(points.mean(0))
        second.append((points**2).sum(1).mean())
    centre = np.mean(centroids, 0)
    return centre, float(np.sqrt(np.mean(second) - centre @ centre))


def _sample(volume: np.ndarray, affine: np.ndarray, points_world: np.ndarray) -> np.ndarray:
    index = (points_world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return ndimage.map_coordinates(volume, index.T, order=1, mode="nearest")


def _random_warp(rng: np.random.Generator, sd_mm: float, length_mm: float, waves: int = 6):  # noqa: ANN202
    """A smooth random displacement field: a sum of `waves` random sine waves of length about `length_mm`."""
    direction = rng.normal(size=(waves, 3)) * 2 * np.pi / length_mm / np.sqrt(3)
    phase = rng.uniform(0, 2 * np.pi, waves)
    amplitude = rng.normal(size=(waves, 3)) * sd_mm * np.sqrt(2 / waves)

    def displacement(points: np.ndarray) -> np.ndarray:
        return np.sin(points @ direction.T + phase) @ amplitude

    return displacement
