"""From one label map to a structure's surface in world mm, with what is wrong with it said plainly; cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from ..cases.find import case_name, is_meta_image
from ..cases.meta_image import data_file
from ..cases.read import read_labels
from ..cases.sources import LabelSource
from ..geometry.affine import Similarity
from ..geometry.distance import signed_distance
from ..geometry.surface import mask_to_surface, sample_surface
from ..organ.pack import Structure
from .border import border_distance, border_planes, extend_beyond, touched_faces
from .cache import cache_file, digest, load_arrays, save_arrays
from .samples import SampleSettings

MIRROR = Similarity(1.0, np.diag([-1.0, 1.0, 1.0]), np.zeros(3))
DESCRIPTOR_SIZE, DESCRIPTOR_EXTENT = 14, 2.2


class CutShape(ValueError):
    """The field of view cuts the structure, and cut ones are not wanted."""


@dataclass(frozen=True)
class ShapeSource:
    """Where a shape is found: a structure in a label map.

    Attributes:
        file: NIfTI label map, or folder of binary masks.
        structure: the structure.
        name: of the shape.
        labels: how the label map is read; None for the pack's own values.
    """

    file: Path
    structure: Structure
    name: str
    labels: LabelSource | None = None


def list_sources(
    files: Sequence[Path], structures: Sequence[Structure], labels: LabelSource | None = None
) -> list[ShapeSource]:
    """Every structure in every label map: named like the file or, of several structures, `<case> <side or structure>`.

    So a prior that both sides share learns from the shapes `scan_01 right` and `scan_01 left`.
    """
    if len(structures) == 1:
        return [ShapeSource(file, structures[0], file.name, labels) for file in files]
    names = {file: file.name if file.is_dir() else case_name(file) for file in files}
    return [ShapeSource(f, s, f"{names[f]} {s.side or s.name}", labels) for f in files for s in structures]


@dataclass(frozen=True)
class LabelSurface:
    """A structure's surface in one case.

    Attributes:
        name: of the shape, see `ShapeSource`, with a suffix for a mirrored twin.
        mirror: whether alignment may mirror it, see `Structure`.
        key: hash of what it was made from.
        mesh: closed surface, world mm. Where the structure is cut, it is prolonged straight beyond the border.
        planes: (P, 4) the borders that cut it, see `border`; none where it is whole.
        cut_share: share of the surface that lies on the volume's border.
        descriptor: (D,) signed distances on a grid about the centroid, in units of the root mean square radius.
    """

    name: str
    mirror: str
    key: str
    mesh: trimesh.Trimesh
    planes: np.ndarray
    cut_share: float
    descriptor: np.ndarray

    @property
    def volume_ml(self) -> float:
        """The volume that the surface encloses."""
        return float(self.mesh.volume) / 1000.0

    @property
    def is_cut(self) -> bool:
        """Whether a border cuts the structure."""
        return len(self.planes) > 0

    def points(self, count: int, seed: int) -> np.ndarray:
        """About `count` points (N, 3) spread uniformly over what is seen of the surface, world mm."""
        points, _ = sample_surface(self.mesh, count, seed=seed)
        return points[border_distance(self.planes, points) >= 0]

    def mirrored(self) -> LabelSurface:
        """The left-right mirrored twin (world x negated)."""
        mesh = closed_mesh(MIRROR.apply(self.mesh.vertices), np.asarray(self.mesh.faces)[:, ::-1].copy())
        planes = self.planes * np.array([-1.0, 1.0, 1.0, 1.0])
        key = digest("mirrored", self.key)
        return LabelSurface(f"{self.name}~mirror", self.mirror, key, mesh, planes, self.cut_share, self.descriptor)


def closed_mesh(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    """A mesh of just these vertices and faces."""
    return trimesh.Trimesh(vertices, faces, process=False)


def surface_key(source: ShapeSource, settings: SampleSettings) -> str:
    """Hash of a label map's bytes, of the structure, and of the settings that its surface depends on.

    Raises:
        OSError: the file cannot be read.
        CaseError: names say that it has nothing of the pack.
    """
    files = [source.file] if source.labels is None else source.labels.files(source.file)
    parts = [part for file in files for part in (file, data_file(file) if is_meta_image(file) else None) if part]
    content = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    reading = "" if source.labels is None else source.labels.key(source.file)
    values = sorted(source.structure.labels)
    limits = settings.min_voxels, settings.cut_shapes, settings.cut_share
    special = [part for part in (source.structure.side, reading) if part]
    return digest("surface", content, values, settings.target_spacing_mm, *limits, *special)


def read_mask(source: ShapeSource, min_voxels: int) -> tuple[np.ndarray, np.ndarray]:
    """A structure's mask (X, Y, Z) bool in a label map, and its affine (4, 4).

    Raises:
        ValueError: the structure is missing or too small.
        CaseError: the file is no 3D label map, or its affine cannot be used.
    """
    if source.labels is not None and source.labels.key(source.file):
        given = source.labels.read(source.file)
        voxels, affine = given.in_pack_values(), given.affine
    else:
        voxels, affine = read_labels(source.file)
    structure = source.structure
    mask = structure.mask(voxels, affine)
    count = int(np.count_nonzero(mask))
    what = f"the labels {list(structure.labels)}" + (f" on the {structure.side} side" if structure.side else "")
    if not count:
        raise ValueError(f"holds none of {what}")
    if count < min_voxels:
        raise ValueError(f"has only {count} voxels of {what}, at least {min_voxels} are needed")
    return mask, affine


def extract_surface(source: ShapeSource, key: str, cache_dir: Path, settings: SampleSettings) -> LabelSurface:
    """Surface of a structure in a label map, read from the cache where it was made before.

    Args:
        source: what to read.
        key: see `surface_key`.
        cache_dir: where surfaces are kept.
        settings: see `SampleSettings`.

    Raises:
        ValueError: see `read_mask`.
        CaseError: see `read_mask`.
        CutShape: the structure is cut, and the settings exclude such.
    """
    cached = cache_file(cache_dir, "surface", key)
    if not cached.is_file():
        mask, affine = read_mask(source, settings.min_voxels)
        mesh = mask_to_surface(mask, affine, settings.target_spacing_mm)
        faces = touched_faces(mask, affine)
        share = sum(face.area_mm2 for face in faces) / float(mesh.area)
        planes = np.zeros((0, 4))
        if share > settings.cut_share and settings.cut_shapes == "observed":
            planes = border_planes(faces, mask.shape, affine)
            mesh = mask_to_surface(*extend_beyond(mask, affine, faces), settings.target_spacing_mm)
        arrays = {"vertices": np.asarray(mesh.vertices), "faces": np.asarray(mesh.faces), "planes": planes}
        save_arrays(cached, {**arrays, "cut_share": np.array(share), "descriptor": describe(mesh)})
    data = load_arrays(cached)
    share = float(data["cut_share"])
    if share > settings.cut_share and settings.cut_shapes == "exclude":
        raise CutShape(
            f"is cut by the field of view ({share:.1%} of its surface lies on the border); "
            "--cut_shapes observed learns from what is seen of it"
        )
    mesh = closed_mesh(data["vertices"], data["faces"])
    return LabelSurface(source.name, source.structure.mirror, key, mesh, data["planes"], share, data["descriptor"])


def describe(mesh: trimesh.Trimesh) -> np.ndarray:
    """Signed distances (D,) on a coarse grid once centroid and root mean square radius are taken out."""
    points, _ = sample_surface(mesh, 2000, seed=0)
    centre = points.mean(axis=0)
    radius = np.sqrt(((points - centre) ** 2).sum(axis=1).mean())
    axis = np.linspace(-DESCRIPTOR_EXTENT, DESCRIPTOR_EXTENT, DESCRIPTOR_SIZE)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return (signed_distance(mesh, grid * radius + centre) / radius).astype(np.float32)
