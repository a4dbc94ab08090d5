"""Shapes of one prior compared point by point: the same places in all cases, their mean, and the distances from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import trimesh

from ..geometry.distance import signed_distance
from ..geometry.procrustes import procrustes
from ..geometry.simplify import simplified
from ..geometry.thickness import wall_thickness
from ..prior.correspondence import onto_template
from ..prior.landmarks import Landmarks
from ..prior.linear import principal_modes
from ..prior.prior import ShapePrior, template_surface

FACES = 4000  # of the template, of which each corner is a point that is compared
MODES = 10  # principal components of the shapes, at most
GAP = 0.05  # canonical, a tenth of a shape's radius: a template point farther from a mesh has no place on it
LEAST_KNOWN = 0.1  # of the template's area: a shape that has less has no place on it
LEAST_SHAPES = 2


@dataclass(frozen=True)
class Template:
    """The points of a template at which shapes are compared.

    Attributes:
        places: (N, 3) canonical.
        faces: (F, 3) their triangles.
        scale_mm: mm of a canonical unit.
    """

    places: np.ndarray
    faces: np.ndarray
    scale_mm: float

    @classmethod
    def of(cls, prior: ShapePrior, face_count: int = FACES) -> Template:
        """Return about `face_count` / 2 points, evenly spread over a prior's template."""
        surface = template_surface(prior.field)
        surface.apply_scale(prior.scale_mm)
        thin = simplified(surface, face_count)
        corners = torch.as_tensor(thin.vertices / prior.scale_mm, dtype=torch.float32, device=prior.device)
        return cls(onto_template(prior, corners).cpu().numpy().astype(float), np.asarray(thin.faces), prior.scale_mm)

    @property
    def mesh_mm(self) -> trimesh.Trimesh:
        """The template as a mesh, in mm and the axes of the canonical frame."""
        return trimesh.Trimesh(self.places * self.scale_mm, self.faces, process=False)

    @property
    def weights(self) -> np.ndarray:
        """The share (N,) of the template's area that each point stands for."""
        mesh = self.mesh_mm
        areas = np.bincount(mesh.faces.reshape(-1), np.repeat(mesh.area_faces / 3.0, 3), len(self.places))
        return areas / areas.sum()


@dataclass(frozen=True)
class Shape:
    """One shape of a run, as its coloured mesh has it.

    Attributes:
        mesh: world mm.
        places: (V, 3) where its vertices lie on the template, canonical.
        mirrored: whether the prior was mirrored for it: it is of the other side than the prior's.
    """

    mesh: trimesh.Trimesh
    places: np.ndarray
    mirrored: bool


@dataclass(frozen=True)
class Placed:
    """A shape at the template's N points.

    Attributes:
        shape: the shape.
        landmarks: where its mesh has the points.
        known: (N,) bool, whether it has them.
    """

    shape: Shape
    landmarks: Landmarks
    known: np.ndarray

    @classmethod
    def on(cls, template: Template, shape: Shape) -> Placed:
        """Find a template's points on a shape.

        Raises:
            ValueError: it has too few of them, or numbers that are none.
        """
        if not (np.isfinite(shape.mesh.vertices).all() and np.isfinite(shape.places).all()):
            raise ValueError("its mesh holds NaN or infinity")
        landmarks = Landmarks.find(template.places, shape.places, shape.mesh.faces)
        known = landmarks.gap <= GAP
        share = float(template.weights[known].sum())
        if share < LEAST_KNOWN:
            raise ValueError(f"its mesh has {100 * share:.0f} % of the template")
        return cls(shape, landmarks, known)

    @property
    def points(self) -> np.ndarray:
        """Where the points are, (N, 3) world mm."""
        return self.landmarks.of(self.shape.mesh.vertices)

    def thickness_mm(self) -> np.ndarray:
        """Return the thickness (N,) at the points, see `wall_thickness`; NaN where the shape has no such point."""
        normals = self.landmarks.of(self.shape.mesh.vertex_normals)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return np.where(self.known, wall_thickness(self.shape.mesh, self.points, normals), np.nan)


@dataclass(frozen=True)
class Study:
    """S shapes at the template's N points. Lengths are in mm; NaN where a shape has no such place.

    Attributes:
        template: the points.
        points: (S, N, 3) aligned, in the axes of the canonical frame; shapes of the other side are mirrored.
        mean: (N, 3) of them.
        known: (S, N) bool, whether the shape has the place.
        distance_mm: (S, N) signed distance from the mean shape's surface, positive outside of it.
        thickness_mm: (S, N), see `wall_thickness`; NaN too where it has no meaning.
        modes: (K, N, 3) principal components, one standard deviation each, mm.
        scores: (S, K) of the shapes on them, standard deviations.
        variance: (K,) their shares of the shapes' variance.
    """

    template: Template
    points: np.ndarray
    mean: np.ndarray
    known: np.ndarray
    distance_mm: np.ndarray
    thickness_mm: np.ndarray
    modes: np.ndarray
    scores: np.ndarray
    variance: np.ndarray

    @property
    def mean_mesh(self) -> trimesh.Trimesh:
        """The mean shape, mm, in the axes of the canonical frame."""
        return trimesh.Trimesh(self.mean, self.template.faces, process=False)

    @classmethod
    def of(cls, template: Template, shapes: Sequence[Placed], remove_size: bool = False) -> Study:
        """Compare shapes.

        Args:
            template: of their prior.
            shapes: at least two.
            remove_size: whether differences in size are taken out, see `procrustes`; thickness is always as it was.

        Raises:
            ValueError: there are fewer.
        """
        if len(shapes) < LEAST_SHAPES:
            raise ValueError(f"shapes are compared from {LEAST_SHAPES} on, there are {len(shapes)}")
        known = np.stack([one.known for one in shapes])
        sided = [one.points * (-1.0 if one.shape.mirrored else 1.0, 1.0, 1.0) for one in shapes]
        weights = template.weights
        points, mean = procrustes(np.stack(sided), template.mesh_mm.vertices, weights, known, remove_size)
        surface = trimesh.Trimesh(mean, template.faces, process=False)
        distance = np.stack([signed_distance(surface, one) for one in points])
        modes, scores, variance = _modes(points - mean, known, weights)
        return cls(
            template,
            points,
            mean,
            known,
            np.where(known, distance, np.nan),
            np.stack([one.thickness_mm() for one in shapes]),
            modes,
            scores,
            variance,
        )


def _modes(offsets: np.ndarray, known: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return principal components (K, N, 3), scores (S, K) and shares of variance (K,) of offsets (S, N, 3), mm."""
    root = np.sqrt(weights)[:, None]
    rows = torch.as_tensor((offsets * known[:, :, None] * root).reshape(len(offsets), -1), dtype=torch.float32)
    rows = rows - rows.mean(dim=0)
    modes, std = principal_modes(rows, MODES)
    scores = rows @ modes.T / std
    total = float((rows**2).sum()) / (len(rows) - 1)
    shown = (modes * std[:, None]).numpy().reshape(len(std), *offsets.shape[1:]) / np.maximum(root, 1e-9)
    return shown, scores.numpy(), (std**2).numpy() / max(total, 1e-12)
