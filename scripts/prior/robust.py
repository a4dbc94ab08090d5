"""The robust linear fit: scores and pose of linear shape models, fitted to points that are partly wrong.

Gauss-Newton on a redescending loss (Geman-McClure) whose scale is annealed, so that the fit first listens to all
points and at last only to those it can explain. One solver serves the model of one structure and the joint model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

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
    n_modes = channels[0].model.n_modes
    scores = torch.zeros(n_modes)
    pose, moved = start, np.zeros(7)
    spread = np.array([settings.log_scale] + [np.radians(settings.rotation_deg)] * 3 + [settings.translation] * 3)
    scales = np.geomspace(settings.scale_from_mm, settings.scale_to_mm, max(settings.iterations - 6, 1))
    weights: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    for iteration in range(settings.iterations + 1):
        scale = float(scales[min(iteration, len(scales) - 1)])
        normal = np.diag(np.concatenate([np.ones(n_modes), spread**-2]))
        right = np.concatenate([-scores.numpy().astype(float), -moved / spread**2])
        weights, residuals = [], []
        for channel in channels:
            residual, jacobian = _linearise(channel, pose, scores, radius)
            robust = (1.0 / (1.0 + (residual / scale) ** 2)) ** 2
            weight = robust * channel.trust
            weights.append(robust)
            residuals.append(residual)
            gain = settings.independent_points / max(len(residual), 1) / settings.noise_mm**2
            weighted = jacobian * (weight * gain)[:, None]
            normal += weighted.T @ jacobian
            right -= weighted.T @ residual
        if iteration == settings.iterations:
            break
        step = np.linalg.solve(normal, right)
        scores = scores + torch.as_tensor(step[:n_modes], dtype=torch.float32)
        twist = step[n_modes:]
        twist[0], norm = np.clip(twist[0], -0.1, 0.1), np.linalg.norm(twist[1:4])
        twist[1:4] *= min(1.0, np.radians(8.0) / max(norm, 1e-9))
        moved = moved + twist
        update = Similarity(float(np.exp(twist[0])), Rotation.from_rotvec(twist[1:4]).as_matrix(), twist[4:] * radius)
        pose = update.compose(pose)
    return LinearFit(pose.rounded(), scores, weights, residuals)


def _linearise(
    channel: Channel, pose: Similarity, scores: torch.Tensor, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (N,) in mm and their Jacobian (N, K + 7) by scores, log scale, rotation, translation / radius."""
    frame = pose.apply(channel.points_world)
    points = torch.as_tensor(frame, dtype=torch.float32) - channel.centre
    mean, modes = channel.model.basis(points)
    grid = channel.model.grid(scores)[None]
    extent = channel.model.extent
    step = 2.0 * float(torch.as_tensor(extent).max()) / max(grid.shape[1:]) / 2.0
    gradient = np.empty((len(frame), 3))
    for axis in range(3):
        offset = torch.zeros(3)
        offset[axis] = step
        ahead, back = points + offset, points - offset
        ahead_value = sample_grid(grid, ahead, extent)[:, 0] + beyond(ahead, extent)
        back_value = sample_grid(grid, back, extent)[:, 0] + beyond(back, extent)
        gradient[:, axis] = ((ahead_value - back_value) / (2 * step)).numpy()
    value = mean + modes @ scores + beyond(points, extent)
    residual = value.numpy() / pose.scale - channel.targets_mm
    by_pose = np.concatenate(
        [(gradient * frame).sum(1, keepdims=True), np.cross(frame, gradient), gradient * radius], axis=1
    )
    return residual, np.concatenate([modes.numpy(), by_pose], axis=1) / pose.scale
