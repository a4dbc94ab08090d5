"""The robust linear fit: scores and pose of linear shape models, fitted to points that are partly wrong.

Gauss-Newton on a redescending loss (Geman-McClure) whose scale is annealed, so that the fit first listens to all
points and at last only to those it can explain. One solver serves the model of one structure and the joint model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..geometry.affine import Similarity
from .linear import LinearShapeModel, beyond, sample_grid


@dataclass(frozen=True)
class RobustSettings:
    """Tunables of the robust fit.

    Attributes:
        iterations: Gauss-Newton steps.
        scale_from_mm: scale of the loss at the start.
        scale_to_mm: scale of the loss at the end.
        noise_mm: standard deviation of a point that is right.
        independent_points: how many independent points the samples of one structure are worth.
        rotation_deg: prior standard deviation of the rotation against the start.
        translation: prior standard deviation of the translation against the start, over the model's radius.
        log_scale: prior standard deviation of the logarithm of the scale.
    """

    iterations: int = 24
    scale_from_mm: float = 20.0
    scale_to_mm: float = 4.0
    noise_mm: float = 1.5
    independent_points: float = 150.0
    rotation_deg: float = 8.0
    translation: float = 0.25
    log_scale: float = 0.12


@dataclass
class Channel:
    """What is known of one structure: points and the signed distances they should have.

    Attributes:
        model: the structure's linear model.
        centre: (3,) origin of the model's grid in the model frame.
        points_world: (N, 3) mm.
        targets_mm: (N,) signed distances which the shape should have there; 0 on the surface.
        trust: (N,) weights in [0, 1].
    """

    model: LinearShapeModel
    centre: torch.Tensor
    points_world: np.ndarray
    targets_mm: np.ndarray
    trust: np.ndarray


@dataclass
class LinearFit:
    """A fitted linear model.

    Attributes:
        similarity: world → model frame.
        scores: whitened scores (K,).
        weights: per channel, the robust weight (N,) of each point at the end, in [0, 1].
        residuals_mm: per channel, (N,).
    """

    similarity: Similarity
    scores: torch.Tensor
    weights: list[np.ndarray]
    residuals_mm: list[np.ndarray]

    def sdf_mm(self, model: LinearShapeModel, centre: torch.Tensor, points_world: np.ndarray) -> np.ndarray:
        """Return the fitted signed distance (N,) in mm at world points (N, 3)."""
        points = torch.as_tensor(self.similarity.apply(points_world), dtype=torch.float32) - centre
        return model.evaluate(self.scores, points).numpy() / self.similarity.scale


def fit_linear(
    channels: list[Channel], start: Similarity, radius: float, settings: RobustSettings | None = None
) -> LinearFit:
    """Fit the shared scores and pose of the channels' models to their points.

    Args:
        channels: one a structure; all models share their scores.
        start: world → model frame.
        radius: typical size of the shape in the model frame, which balances rotation against translation.
        settings: tunables.

    Returns:
        The fit. Distances beyond a model's grid go on with the Euclidean distance to the grid.
    """
    settings = settings or RobustSettings()
    prepared = [_Prepared(channel) for channel in channels]
    n_modes = channels[0].model.n_modes
    scores = torch.zeros(n_modes)
    pose, moved = start, torch.zeros(7, dtype=torch.float64)
    spread = [settings.log_scale] + [np.radians(settings.rotation_deg)] * 3 + [settings.translation] * 3
    precision = torch.tensor([1.0] * n_modes + [deviation**-2 for deviation in spread], dtype=torch.float64)
    scales = np.geomspace(settings.scale_from_mm, settings.scale_to_mm, max(settings.iterations - 6, 1))
    weights: list[Tensor] = []
    residuals: list[Tensor] = []
    for iteration in range(settings.iterations + 1):
        scale = float(scales[min(iteration, len(scales) - 1)])
        normal = torch.diag(precision)
        right = -precision * torch.cat([scores, moved])
        weights, residuals = [], []
        for own in prepared:
            residual, jacobian = own.linearise(pose, scores, radius)
            robust = (1.0 / (1.0 + (residual / scale) ** 2)) ** 2
            weights.append(robust)
            residuals.append(residual)
            gain = settings.independent_points / max(len(residual), 1) / settings.noise_mm**2
            weighted = jacobian * (robust * own.trust * gain)[:, None]
            normal += weighted.T @ jacobian
            right -= weighted.T @ residual
        if iteration == settings.iterations:
            break
        step = np.linalg.solve(normal.numpy(), right.numpy())
        scores = scores + torch.as_tensor(step[:n_modes], dtype=torch.float32)
        twist = step[n_modes:]
        twist[0], norm = np.clip(twist[0], -0.1, 0.1), np.linalg.norm(twist[1:4])
        twist[1:4] *= min(1.0, np.radians(8.0) / max(norm, 1e-9))
        moved = moved + torch.from_numpy(twist)
        update = Similarity(float(np.exp(twist[0])), Rotation.from_rotvec(twist[1:4]).as_matrix(), twist[4:] * radius)
        pose = update.compose(pose)
    return LinearFit(pose.rounded(), scores, [w.numpy() for w in weights], [r.numpy() for r in residuals])


class _Prepared:
    """A channel for one fit: what no iteration changes is made once.

    The large sums are PyTorch's. Were they NumPy's, the threads of both would wait for each other at each iteration,
    and two cores take longer than one.
    """

    def __init__(self, channel: Channel) -> None:
        self.points_world, self.centre, self.model = channel.points_world, channel.centre, channel.model
        self.targets_mm = torch.as_tensor(channel.targets_mm, dtype=torch.float64)
        self.trust = torch.as_tensor(channel.trust, dtype=torch.float64)
        self.basis = channel.model.basis()
        extent = channel.model.extent
        self.step = 2.0 * float(torch.as_tensor(extent).max()) / max(self.basis.shape[1:]) / 2.0

    def linearise(self, pose: Similarity, scores: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        """Residuals (N,) in mm and their Jacobian (N, K + 7) by scores, log scale, rotation, translation / radius."""
        frame = torch.from_numpy(pose.apply(self.points_world))
        points = frame.float() - self.centre
        basis = sample_grid(self.basis, points, self.model.extent)
        value = basis[:, 0] + basis[:, 1:] @ scores + beyond(points, self.model.extent)
        gradient = self._gradient(scores, points).double()
        turned = torch.linalg.cross(frame, gradient)
        by_pose = torch.cat([(gradient * frame).sum(1, keepdim=True), turned, gradient * radius], 1)
        residual = (value / pose.scale).double() - self.targets_mm
        return residual, torch.cat([basis[:, 1:].double(), by_pose], 1) / pose.scale

    def _gradient(self, scores: Tensor, points: Tensor) -> Tensor:
        """Gradient (N, 3) of the model's distance at points (N, 3), by central differences."""
        aside = self.step * torch.cat([torch.eye(3), -torch.eye(3)])
        values = self.model.evaluate(scores, (points + aside[:, None]).flatten(0, 1)).view(2, 3, -1)
        return ((values[0] - values[1]) / (2 * self.step)).T
