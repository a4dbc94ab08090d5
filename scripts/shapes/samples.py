"""What the prior learns from: points with normals and signed distances of one shape in the canonical frame.

METHOD 4.1.2; signs by libigl on the closed surface instead of the paper's rendered depth images. Of a shape that the
field of view cuts, only what is known is sampled (see `border`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import trimesh

from ..geometry.distance import signed_distance
from ..geometry.surface import sample_surface
from .border import border_distance, is_known

BOX_MARGIN = 0.08  # around a shape, so that what a fit adds beside it counts
CUT_CHOICES = ("exclude", "observed")


@dataclass(frozen=True)
class SampleSettings:
    """What is sampled of each shape. Lengths are canonical unless the name says mm.

    Attributes:
        n_surface: surface points with normals.
        n_free: points with signed distance: half near the surface, half uniform in a ball.
        near_sigmas: standard deviations of the near points' offsets, in equal shares.
        ball_radius: radius of that ball.
        grid_size: G of the signed distance grid for the linear model.
        extent: the grid covers [-extent, extent]^3.
        box_points: about how many grid points in the shape's bounding box judge a fitted shape's DSC.
        picct_points: points of the alignment.
        mirror_augment: add a left-right mirrored twin of each training shape.
        deform_augment: add so many smoothly deformed copies of each training shape.
        deform_amplitude: root mean square displacement of those.
        deform_wavelength: length over which that displacement varies.
        target_spacing_mm: edge of the meshing grid; None takes the voxels'.
        min_voxels: a structure of fewer voxels is not used.
        cut_shapes: what becomes of structures that the field of view cuts: "exclude", or "observed" (sampled where
            seen).
        cut_share: a structure is cut when more than this share of its surface lies on the volume's border.
        seed: of everything random here.

    Raises:
        ValueError: unknown `cut_shapes`.
    """

    n_surface: int = 20000
    n_free: int = 20000
    near_sigmas: tuple[float, ...] = (0.02, 0.08)
    ball_radius: float = 1.1
    grid_size: int = 40
    extent: float = 1.1
    box_points: int = 40000
    picct_points: int = 1000
    mirror_augment: bool = False
    deform_augment: int = 0
    deform_amplitude: float = 0.04
    deform_wavelength: float = 1.0
    target_spacing_mm: float | None = None
    min_voxels: int = 64
    cut_shapes: str = "exclude"
    cut_share: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cut_shapes not in CUT_CHOICES:
            raise ValueError(f"cut_shapes must be one of {CUT_CHOICES}, not {self.cut_shapes!r}")


@dataclass
class ShapeSamples:
    """Samples of one shape in the canonical frame.

    Attributes:
        name: file name of the case, with a suffix for augmented copies.
        surface: (P, 6) points on the surface and their outward normals.
        free: (Q, 4) points and their signed distance.
        grid: (G, G, G) signed distance over [-extent, extent]^3.
        box: (2, 3) corners of the box in which the DSC is judged.
        box_shape: (3,) points of its grid.
        box_inside: (prod(box_shape),) whether the box's grid points lie inside.
        grid_known: (G, G, G) where the grid's distance is known; elsewhere it is that to the prolonged surface.
        box_known: (prod(box_shape),) where `box_inside` is known.
        planes: (P, 4) the borders that cut the shape, canonical; none where it is whole.
        original: whether the shape is a case itself, not an augmented copy.
        mirrored: whether alignment mirrored it.
    """

    name: str
    surface: np.ndarray
    free: np.ndarray
    grid: np.ndarray
    box: np.ndarray
    box_shape: np.ndarray
    box_inside: np.ndarray
    grid_known: np.ndarray
    box_known: np.ndarray
    planes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    original: bool = True
    mirrored: bool = False

    def box_grid(self) -> np.ndarray:
        """The points (N, 3) to which `box_inside` belongs."""
        return box_points(self.box, self.box_shape)


def box_points(box: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Points (prod(shape), 3) of a grid whose corners are those of a box (2, 3)."""
    axes = [np.linspace(box[0, d], box[1, d], int(shape[d])) for d in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)


def smooth_displacement(points: np.ndarray, amplitude: float, wavelength: float, seed: int) -> np.ndarray:
    """A smooth random displacement (N, 3) of points (N, 3): a sum of low-frequency waves of random direction.

    Each component is a random field of root mean square `amplitude` / sqrt(3) whose shortest wave is `wavelength`.
    """
    rng = np.random.default_rng(seed)
    n_waves = 12
    directions = rng.normal(size=(n_waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequencies = directions * rng.uniform(0.25, 1.0, size=(n_waves, 1)) * 2.0 * np.pi / wavelength
    phases = rng.uniform(0.0, 2.0 * np.pi, size=n_waves)
    vectors = rng.normal(size=(n_waves, 3)) * amplitude * np.sqrt(2.0 / (3.0 * n_waves))
    return np.sin(points @ frequencies.T + phases) @ vectors


def sample_shape(
    mesh: trimesh.Trimesh,
    name: str,
    settings: SampleSettings,
    original: bool = True,
    planes: np.ndarray | None = None,
) -> ShapeSamples:
    """Sample a closed surface that lies in the canonical frame.

    Args:
        mesh: closed surface, canonical; prolonged beyond the borders that cut it.
        name: of the shape; fixes the random draws together with the settings' seed.
        settings: see `SampleSettings`.
        original: whether the shape is a case itself, not an augmented copy.
        planes: (P, 4) those borders, canonical. Surface points beyond them are not drawn, free points of unknown
            distance are left out.

    Raises:
        ValueError: nothing of the surface is seen.
    """
    planes = np.zeros((0, 4)) if planes is None else planes
    seed = zlib.crc32(f"{settings.seed}/{name}".encode())
    rng = np.random.default_rng(seed)
    points, normals = sample_surface(mesh, settings.n_surface, seed=seed, smooth_normals=True)
    seen = border_distance(planes, points) >= 0
    points, normals = points[seen], normals[seen]
    if not len(points):
        raise ValueError("nothing of its surface is seen")
    n_near = settings.n_free // 2
    near, _ = sample_surface(mesh, n_near, seed=seed + 1)
    near = near + rng.normal(size=near.shape) * rng.choice(settings.near_sigmas, size=(n_near, 1))
    directions = rng.normal(size=(settings.n_free - n_near, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = settings.ball_radius * directions * np.cbrt(rng.random((len(directions), 1)))
    free = np.concatenate([near, ball])
    axis = np.linspace(-settings.extent, settings.extent, settings.grid_size)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    box = np.stack([points.min(axis=0) - BOX_MARGIN, points.max(axis=0) + BOX_MARGIN])
    size = box[1] - box[0]
    step = float(np.cbrt(size.prod() / settings.box_points)) if original else np.inf
    box_shape = np.maximum(np.ceil(size / step).astype(int), 2)
    inner = box_points(box, box_shape)

    every = np.concatenate([free, grid, inner])
    distance = signed_distance(mesh, every)
    ends = np.cumsum([len(free), len(grid)])
    in_free, in_grid, in_box = np.split(distance, ends)
    free_known, grid_known, box_known = np.split(is_known(planes, every, distance), ends)
    return ShapeSamples(
        name=name,
        surface=np.concatenate([points, normals], axis=1).astype(np.float32),
        free=np.concatenate([free, in_free[:, None]], axis=1)[free_known].astype(np.float32),
        grid=in_grid.reshape([settings.grid_size] * 3).astype(np.float32),
        box=box.astype(np.float32),
        box_shape=box_shape,
        box_inside=in_box < 0,
        grid_known=grid_known.reshape([settings.grid_size] * 3),
        box_known=box_known,
        planes=planes,
        original=original,
    )
