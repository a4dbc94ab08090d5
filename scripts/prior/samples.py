"""From label maps to what the prior learns from: aligned shapes, points with normals, signed distances.

Each label map's structure becomes a surface in world mm, PICCT maps it to the canonical frame of the category's anchor
(the shape nearest to all others), and there it is sampled (METHOD 4.1.2; signs by libigl on the closed surface instead
of the paper's rendered depth images). Results are cached one file a shape, keyed by content and settings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import trimesh
from scipy.spatial import cKDTree
from tqdm import tqdm

from ..geometry.distance import signed_distance
from ..geometry.picct import PICCT, normalise
from ..geometry.surface import mask_to_surface, sample_surface

logger = logging.getLogger(__name__)

CACHE_VERSION = 1
N_ANCHOR_POINTS = 2000


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
        mirror: whether alignment may mirror: "never", "auto" or "always".
        mirror_augment: add a left-right mirrored twin of each training shape.
        deform_augment: add so many smoothly deformed copies of each training shape.
        deform_amplitude: root mean square displacement of those.
        deform_wavelength: length over which that displacement varies.
        target_spacing_mm: edge of the meshing grid; None takes the voxels'.
        seed: of everything random here.
    """

    n_surface: int = 20000
    n_free: int = 20000
    near_sigmas: tuple[float, ...] = (0.02, 0.08)
    ball_radius: float = 1.1
    grid_size: int = 40
    extent: float = 1.1
    box_points: int = 40000
    picct_points: int = 1000
    mirror: str = "never"
    mirror_augment: bool = False
    deform_augment: int = 0
    deform_amplitude: float = 0.04
    deform_wavelength: float = 1.0
    target_spacing_mm: float | None = None
    seed: int = 0


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
    original: bool = True
    mirrored: bool = False

    def box_grid(self) -> np.ndarray:
        """The points (N, 3) at which `box_inside` is known."""
        axes = [np.linspace(self.box[0, d], self.box[1, d], int(self.box_shape[d])) for d in range(3)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)


@dataclass
class PreparedShapes:
    """A category's samples and its canonical frame.

    Attributes:
        train: training shapes, augmented copies included.
        validation: held-out shapes.
        anchor_name: the case that is the anchor.
        anchor_points: (K, 3) canonical.
        scale_mm: mm of one canonical unit in the anchor's own frame.
        skipped: case → why it is not used.
        data_hash: SHA-256 over the training cases' label maps.
        settings: how they were sampled.
    """

    train: list[ShapeSamples]
    validation: list[ShapeSamples]
    anchor_name: str
    anchor_points: np.ndarray
    scale_mm: float
    skipped: dict[str, str] = field(default_factory=dict)
    data_hash: str = ""
    settings: SampleSettings = field(default_factory=SampleSettings)

    @property
    def grids(self) -> np.ndarray:
        """Signed distance grids of the training shapes, (S, G, G, G)."""
        return np.stack([shape.grid for shape in self.train])


@dataclass
class _Surface:
    """A case's surface in world mm with the hash of what it was made from."""

    name: str
    key: str
    mesh: trimesh.Trimesh


_Aligned = tuple[trimesh.Trimesh, bool, str]


def _digest(*parts: object) -> str:
    """Hash of JSON-serialisable parts."""
    return hashlib.sha256(json.dumps([CACHE_VERSION, *parts], sort_keys=True).encode()).hexdigest()


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(temporary, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)


def _mesh(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, faces, process=False)


def load_surface(file: Path, labels: Sequence[int], cache_dir: Path, target_spacing_mm: float | None) -> _Surface:
    """Surface of a structure in world mm, cached.

    Raises:
        ValueError: the structure is empty in this case, or the file is no 3D image.
    """
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    key = _digest("surface", content, sorted(int(v) for v in labels), target_spacing_mm)
    cached = cache_dir / f"surface-{key[:24]}.npz"
    if cached.is_file():
        with np.load(cached) as data:
            return _Surface(file.name, key, _mesh(data["vertices"], data["faces"]))
    image = nib.load(file)
    voxels = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
    if voxels.ndim != 3:
        raise ValueError(f"is no 3D label map but has shape {voxels.shape}")
    mask = np.isin(voxels, [int(v) for v in labels])
    if not mask.any():
        raise ValueError(f"holds none of the labels {list(labels)}")
    mesh = mask_to_surface(mask, image.affine, target_spacing_mm)  # type: ignore[attr-defined]
    _save_arrays(cached, {"vertices": np.asarray(mesh.vertices), "faces": np.asarray(mesh.faces)})
    return _Surface(file.name, key, mesh)


def choose_anchor(surfaces: Sequence[_Surface], n_candidates: int = 20, n_points: int = 500) -> int:
    """Index of the medoid: the case whose surface is nearest to all others' once centroid and RMS radius agree.

    Nearness is the symmetric mean distance of `n_points` surface points; candidates are spread over the cases.
    """
    clouds = []
    for surface in surfaces:
        points, _ = sample_surface(surface.mesh, n_points, seed=0)
        points = points - points.mean(axis=0)
        clouds.append(points / np.sqrt((points**2).sum(axis=1).mean()))
    trees = [cKDTree(cloud) for cloud in clouds]
    candidates = np.unique(np.linspace(0, len(clouds) - 1, min(n_candidates, len(clouds))).round().astype(int))
    costs = [
        sum(trees[c].query(clouds[i])[0].mean() + trees[i].query(clouds[c])[0].mean() for i in range(len(clouds)))
        for c in candidates
    ]
    return int(candidates[int(np.argmin(costs))])


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


def sample_shape(mesh: trimesh.Trimesh, name: str, settings: SampleSettings, original: bool = True) -> ShapeSamples:
    """Sample a closed surface that lies in the canonical frame."""
    seed = zlib.crc32(f"{settings.seed}/{name}".encode())
    rng = np.random.default_rng(seed)
    points, normals = sample_surface(mesh, settings.n_surface, seed=seed, smooth_normals=True)
    n_near = settings.n_free // 2
    near, _ = sample_surface(mesh, n_near, seed=seed + 1)
    near = near + rng.normal(size=near.shape) * rng.choice(settings.near_sigmas, size=(n_near, 1))
    directions = rng.normal(size=(settings.n_free - n_near, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = settings.ball_radius * directions * np.cbrt(rng.random((len(directions), 1)))
    free = np.concatenate([near, ball])
    axis = np.linspace(-settings.extent, settings.extent, settings.grid_size)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)

    box = np.stack([points.min(axis=0) - 0.02, points.max(axis=0) + 0.02])
    size = box[1] - box[0]
    step = float(np.cbrt(size.prod() / settings.box_points)) if original else np.inf
    box_shape = np.maximum(np.ceil(size / step).astype(int), 2)
    shape = ShapeSamples(
        name=name,
        surface=np.concatenate([points, normals], axis=1).astype(np.float32),
        free=np.empty((0, 4), np.float32),
        grid=np.empty((0, 0, 0), np.float32),
        box=box.astype(np.float32),
        box_shape=box_shape,
        box_inside=np.empty(0, bool),
        original=original,
    )
    inner = shape.box_grid()
    distance = signed_distance(mesh, np.concatenate([free, grid, inner]))
    ends = np.cumsum([len(free), len(grid)])
    in_free, in_grid, in_box = np.split(distance, ends)
    shape.free = np.concatenate([free, in_free[:, None]], axis=1).astype(np.float32)
    shape.grid = in_grid.reshape([settings.grid_size] * 3).astype(np.float32)
    shape.box_inside = in_box < 0
    return shape


def _cached_sample(
    mesh: trimesh.Trimesh, name: str, key: str, cache_dir: Path, settings: SampleSettings, original: bool
) -> ShapeSamples:
    """`sample_shape`, read from the cache where it was done before."""
    cached = cache_dir / f"shape-{key[:24]}.npz"
    if cached.is_file():
        with np.load(cached) as data:
            arrays = {entry: data[entry] for entry in data.files}
        return ShapeSamples(name=name, original=original, **arrays)
    shape = sample_shape(mesh, name, settings, original)
    entries = ("surface", "free", "grid", "box", "box_shape", "box_inside")
    _save_arrays(cached, {entry: getattr(shape, entry) for entry in entries})
    return shape


def _align(surface: _Surface, picct: PICCT, settings: SampleSettings, cache_dir: Path, frame_key: str) -> _Aligned:
    """The surface in the canonical frame, whether it was mirrored, and the alignment's key; cached.

    Raises:
        ValueError: the alignment failed.
    """
    key = _digest("picct", surface.key, frame_key, settings.picct_points, settings.mirror, settings.seed)
    cached = cache_dir / f"picct-{key[:24]}.npz"
    if cached.is_file():
        with np.load(cached) as data:
            matrix, failure = data["matrix"], str(data["failure"])
    else:
        points, _ = sample_surface(surface.mesh, 4 * settings.picct_points, seed=settings.seed)
        transform = picct(points, seed=settings.seed)
        matrix, failure = transform.similarity.as_matrix(), transform.failure
        _save_arrays(cached, {"matrix": matrix, "failure": np.array(failure)})
    if failure:
        raise ValueError(f"cannot be aligned: {failure}")
    mirrored = bool(np.linalg.det(matrix[:3, :3]) < 0)
    vertices = np.asarray(surface.mesh.vertices) @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(surface.mesh.faces)
    return _mesh(vertices, faces[:, ::-1].copy() if mirrored else faces), mirrored, key


def _flipped(surface: _Surface) -> _Surface:
    """The left-right mirrored twin of a surface (world x negated)."""
    vertices = np.asarray(surface.mesh.vertices) * np.array([-1.0, 1.0, 1.0])
    mesh = _mesh(vertices, np.asarray(surface.mesh.faces)[:, ::-1].copy())
    return _Surface(f"{surface.name}~mirror", _digest("flipped", surface.key), mesh)


def _load_all(
    files: Sequence[Path], labels: Sequence[int], cache_dir: Path, settings: SampleSettings, skipped: dict
) -> list[_Surface]:
    """Surfaces of the cases that have the structure; the others are named and noted in `skipped`."""
    surfaces = []
    for file in tqdm(files, desc="surfaces", unit="case", disable=None):
        try:
            surfaces.append(load_surface(Path(file), labels, cache_dir, settings.target_spacing_mm))
        except (ValueError, OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
            skipped[Path(file).name] = str(error)
            logger.warning("skipped %s: %s", Path(file).name, error)
    return surfaces


def prepare(
    label_files: Sequence[str | Path],
    labels: Sequence[int],
    cache_dir: str | Path,
    settings: SampleSettings | dict | None = None,
    validation_files: Sequence[str | Path] = (),
) -> PreparedShapes:
    """Turn label maps into training samples of one structure.

    Args:
        label_files: NIfTI label maps to learn from.
        labels: label values whose union is the structure.
        cache_dir: where the samples are kept.
        settings: `SampleSettings` or a mapping with some of its fields.
        validation_files: label maps held out; aligned to the same anchor, never augmented.

    Raises:
        ValueError: fewer than two cases can be used.
    """
    settings = settings if isinstance(settings, SampleSettings) else SampleSettings(**(settings or {}))
    cache = Path(cache_dir)
    skipped: dict[str, str] = {}
    surfaces = _load_all([Path(f) for f in label_files], labels, cache, settings, skipped)
    held_out = _load_all([Path(f) for f in validation_files], labels, cache, settings, skipped)
    if len(surfaces) < 2:
        raise ValueError(f"needs at least two usable label maps, not {len(surfaces)}; skipped: {skipped or 'none'}")
    anchor = surfaces[choose_anchor(surfaces)]
    anchor_world, _ = sample_surface(anchor.mesh, N_ANCHOR_POINTS, seed=settings.seed)
    frame = normalise(anchor_world)
    anchor_points, scale_mm = frame.apply(anchor_world), 1.0 / frame.scale
    picct = PICCT(anchor_points, scale_mm, n_points=settings.picct_points, mirror=settings.mirror)
    logger.info("anchor: %s (one canonical unit is %.1f mm)", anchor.name, scale_mm)

    twins = [_flipped(surface) for surface in surfaces] if settings.mirror_augment else []
    jobs = [(surface, True) for surface in surfaces + twins] + [(surface, False) for surface in held_out]
    sampling = {key: value for key, value in asdict(settings).items() if not key.endswith("_augment")}
    train: list[ShapeSamples] = []
    validation: list[ShapeSamples] = []
    for surface, training in tqdm(jobs, desc="samples", unit="shape", disable=None):
        try:
            mesh, mirrored, key = _align(surface, picct, settings, cache, anchor.key)
        except ValueError as error:
            skipped[surface.name] = str(error)
            logger.warning("skipped %s: %s", surface.name, error)
            continue
        original = "~" not in surface.name
        shape = _cached_sample(mesh, surface.name, _digest(key, sampling, original), cache, settings, original)
        shape.mirrored = mirrored
        (train if training else validation).append(shape)
        for copy in range(settings.deform_augment if training else 0):
            name = f"{surface.name}~deform{copy + 1}"
            seed = zlib.crc32(f"{settings.seed}/{name}".encode())
            vertices = np.asarray(mesh.vertices)
            moved = vertices + smooth_displacement(
                vertices, settings.deform_amplitude, settings.deform_wavelength, seed
            )
            deformed = _mesh(moved, np.asarray(mesh.faces))
            train.append(_cached_sample(deformed, name, _digest(key, sampling, name), cache, settings, False))
    if sum(shape.original for shape in train) < 2:
        raise ValueError(f"fewer than two shapes could be aligned; skipped: {skipped}")
    used = sorted(surface.key for surface in surfaces if surface.name not in skipped)
    return PreparedShapes(
        train, validation, anchor.name, anchor_points, scale_mm, skipped, _digest("data", used), settings
    )
