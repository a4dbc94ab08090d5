"""The linear shape model: principal components of signed distance grids (SDF-PCA).

A shape is `s(x) = mean(x) + Σ_k z_k std_k mode_k(x)` on a cubic grid of the canonical frame. It is the initialiser of
the implicit prior's codes, the fast mode, and the baseline that the implicit prior must beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as nnf

from .tensor_file import TensorFile


@dataclass
class LinearShapeModel:
    """SDF-PCA on a grid of the canonical frame.

    Attributes:
        mean: mean signed distance, (G, G, G), axes x, y, z, canonical units, negative inside.
        modes: orthonormal modes, (K, G, G, G).
        std: standard deviation of each mode's score over the training shapes, (K,).
        extent: the grid's outermost samples lie at ±extent on each axis (corners aligned); a number, or one an axis.
    """

    mean: torch.Tensor
    modes: torch.Tensor
    std: torch.Tensor
    extent: float | torch.Tensor

    @property
    def n_modes(self) -> int:
        """Number of modes K."""
        return int(self.modes.shape[0])

    @classmethod
    def train(cls, sdf_grids: np.ndarray | torch.Tensor, extent: float, n_modes: int) -> LinearShapeModel:
        """Fit the model to the grids of S training shapes.

        Args:
            sdf_grids: (S, G, G, G) signed distances, canonical units.
            extent: half the edge of the cube which the grid covers.
            n_modes: number of modes to keep; at most S - 1 are.

        Raises:
            ValueError: fewer than two shapes.
        """
        grids = torch.as_tensor(np.asarray(sdf_grids), dtype=torch.float32)
        if grids.ndim != 4 or grids.shape[0] < 2:
            raise ValueError(f"a linear shape model needs at least two grids (S, G, G, G), not {tuple(grids.shape)}")
        mean = grids.mean(0)
        rows = (grids - mean).flatten(1)
        modes, std = principal_modes(rows, n_modes)
        return cls(mean, modes.view(-1, *mean.shape), std, float(extent))

    def scores(self, sdf_grids: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Return the whitened scores (S, K) of grids (S, G, G, G): their projections over the modes' std."""
        rows = torch.as_tensor(np.asarray(sdf_grids), dtype=torch.float32) - self.mean
        return rows.flatten(1) @ self.modes.flatten(1).T / self.std

    def grid(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the signed distance grid (G, G, G) of whitened scores (K,), canonical units."""
        return self.mean + torch.einsum("k,kxyz->xyz", scores.to(self.mean) * self.std, self.modes)

    def basis(self) -> torch.Tensor:
        """Return the grids (1 + K, G, G, G) of the mean, and of each mode times its standard deviation."""
        return torch.cat([self.mean[None], self.modes * self.std[:, None, None, None]])

    def evaluate(self, scores: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Return the signed distance (N,) at canonical points (N, 3) for whitened scores (K,).

        Points beyond the grid get the value at the grid's nearest point plus the distance to it.
        """
        return sample_grid(self.grid(scores)[None], points, self.extent)[:, 0] + beyond(points, self.extent)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the model as plain tensors: the mean in half precision, modes in 255 steps of their largest value."""
        step = (self.modes.abs().amax((1, 2, 3)) / 127).clamp_min(1e-12)
        return {
            "mean": self.mean.half(),
            "modes": (self.modes / step[:, None, None, None]).round().to(torch.int8),
            "modes_step": step,
            "std": self.std.clone(),
            "extent": torch.as_tensor(self.extent, dtype=torch.float32).reshape(-1),
        }

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> LinearShapeModel:
        """Return the model that `state` describes."""
        extent = state["extent"].float() if state["extent"].numel() == 3 else float(state["extent"][0])
        modes = state["modes"].float() * state["modes_step"].float()[:, None, None, None]
        return cls(state["mean"].float(), modes, state["std"].float(), extent)


def check_linear(file: TensorFile, prefix: str) -> int:
    """Check the sizes of a linear model's tensors (`LinearShapeModel.state`) in a file.

    Args:
        file: the file.
        prefix: of the tensors' names.

    Returns:
        The number of modes K.

    Raises:
        BrokenFile: they do not fit together.
    """
    modes = file.shapes.get(f"{prefix}modes", ())
    file.require(len(modes) == 4 and min(modes) >= 1 and min(modes[1:]) >= 2, f"{prefix}modes are no grids")
    extent = file.shapes.get(f"{prefix}extent")
    file.require(extent in ((1,), (3,)), f"{prefix}extent has the shape {extent}, not (1,) or (3,)")
    file.require_shapes({f"{prefix}mean": modes[1:], f"{prefix}modes_step": (modes[0],), f"{prefix}std": (modes[0],)})
    return modes[0]


def principal_modes(rows: torch.Tensor, n_modes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return orthonormal modes (K, D) and standard deviations (K,) of centred rows (S, D), the largest first."""
    kept = min(n_modes, len(rows) - 1)
    eigenvalues, vectors = torch.linalg.eigh((rows @ rows.T).double() / (len(rows) - 1))
    order = torch.argsort(eigenvalues, descending=True)[:kept]
    std = eigenvalues[order].clamp_min(1e-12).sqrt().float()
    modes = (vectors[:, order].T.float() @ rows) / (std * (len(rows) - 1) ** 0.5)[:, None]
    # a mode's sign is arbitrary: its largest entry is positive, so that runs agree
    return modes * modes.gather(1, modes.abs().argmax(1, keepdim=True)).sign(), std


def sample_grid(grids: torch.Tensor, points: torch.Tensor, extent: float | torch.Tensor) -> torch.Tensor:
    """Interpolate grids trilinearly.

    Args:
        grids: (C, X, Y, Z), samples at the corners of the box [-extent, extent].
        points: (N, 3) canonical; beyond the box the border's value is taken.
        extent: half the box's edges, a number or (3,).

    Returns:
        (N, C).
    """
    where = (points.to(grids) / extent).flip(-1).view(1, 1, 1, -1, 3)
    values = nnf.grid_sample(grids[None], where, mode="bilinear", padding_mode="border", align_corners=True)
    return values[0, :, 0, 0].T


def beyond(points: torch.Tensor, extent: float | torch.Tensor) -> torch.Tensor:
    """Return how far points (N, 3) lie outside the box [-extent, extent], (N,)."""
    return (points.abs() - extent).clamp_min(0).norm(dim=-1)
