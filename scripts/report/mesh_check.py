"""A run's meshes against plain marching cubes of its masks: how smooth they are, and whether they are closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from skimage import measure
from tqdm import tqdm

from ..cases.mesh import read_mesh
from ..cases.read import read_labels
from ..geometry.affine import apply_affine, box_affine, voxel_volume_mm3
from ..geometry.surface import crop_box
from ..metrics.smoothness import rough_share
from ..organ.several import load_packs
from .gallery import Exhibit, draw_gallery
from .pictures import Camera
from .run_folder import Run

GREY = (205, 200, 190)
SHOWN = 3  # structures of the picture
DPI = 150
COLUMNS = ("structure", "n", "closed, outward", "volume off %, at most", "rough %: voxels", "mesh", "area")


@dataclass(frozen=True)
class Checked:
    """One structure's mesh against the surface of its voxels.

    Attributes:
        name: of the structure.
        closed: whether the mesh is watertight, with normals outward.
        volume_off: volume beyond the mask's, as a share of it.
        rough: share of normals more than 20° off within a voxel, of the voxels' surface and of the mesh.
        area_ratio: area of the mesh over that of the voxels' surface.
    """

    name: str
    closed: bool
    volume_off: float
    rough: tuple[float, float]
    area_ratio: float


def meshes(run_dir: str, picture: str = "") -> str:
    """Check a run's meshes, and compare them with plain marching cubes of the refined masks.

    Args:
        run_dir: output folder of `refine` or `segment`, with meshes as STL or PLY (which is beside every format).
        picture: PNG file to draw of the first case: the voxels' surface on the left, the mesh on the right.

    Returns:
        A Markdown table, one row a structure.

    Raises:
        ValueError: the run has no mesh.
        OrganError: the run's organ pack is not at hand.
    """
    run = Run.open(run_dir)
    pack = load_packs(run.report["settings"]["organ"])
    found: list[Checked] = []
    rows: list[list[Exhibit]] = []
    for record in tqdm(run.report["cases"], unit="case", disable=None):
        mask_file = run.file(record, "refined")
        if mask_file is None:
            continue
        label_map, affine = read_labels(mask_file)
        drawn: list[list[Exhibit]] = []
        for shape, mask in pack.shapes(label_map, affine):
            mesh_file = run.mesh_file(record, shape.name)
            if mesh_file is None:
                continue
            mesh, voxels = read_mesh(mesh_file, join=True), voxel_surface(mask, affine)
            found.append(check(shape.name, mesh, voxels, mask, affine))
            camera = Camera.facing(voxels)
            drawn.append([_exhibit(f"{shape.name}: voxels", voxels, camera), _exhibit("mesh", mesh, camera)])
        rows = rows or drawn[:SHOWN]
    if not found:
        raise ValueError(f"{run_dir} has no mesh as STL or PLY: give the output folder of refine or segment")
    if picture:
        draw_gallery(Path(picture), rows, dpi=DPI)
    return _table(found)


def voxel_surface(mask: np.ndarray, affine: np.ndarray) -> trimesh.Trimesh:
    """Return plain marching cubes of a mask (X, Y, Z) in world mm: of its voxels, closed at the grid's border."""
    box = crop_box(mask)
    vertices, faces, _, _ = measure.marching_cubes(
        np.pad(mask[box] != 0, 1).astype(np.float32), 0.5, gradient_direction="ascent"
    )
    world = apply_affine(box_affine(affine, [side.start - 1 for side in box]), vertices.astype(float))
    faces = faces if np.linalg.det(affine[:3, :3]) > 0 else faces[:, ::-1]
    return trimesh.Trimesh(world, faces, process=False)


def check(name: str, mesh: trimesh.Trimesh, voxels: trimesh.Trimesh, mask: np.ndarray, affine: np.ndarray) -> Checked:
    """Compare a mesh with the surface of the voxels (X, Y, Z) that it is of; `affine` is voxel → world mm."""
    volume_mm3 = np.count_nonzero(mask) * voxel_volume_mm3(affine)
    voxel_mm = float(np.cbrt(voxel_volume_mm3(affine)))
    return Checked(
        name,
        bool(mesh.is_watertight and mesh.volume > 0),
        float(mesh.volume) / volume_mm3 - 1.0,
        (rough_share(voxels, voxel_mm), rough_share(mesh, voxel_mm)),
        float(mesh.area / voxels.area),
    )


def _exhibit(title: str, mesh: trimesh.Trimesh, camera: Camera) -> Exhibit:
    return Exhibit(title, mesh, np.tile(np.array(GREY, np.uint8), (len(mesh.vertices), 1)), camera)


def _table(found: Sequence[Checked]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name in dict.fromkeys(one.name for one in found):
        own = [one for one in found if one.name == name]
        furthest = max(abs(one.volume_off) for one in own)
        before, after = (100 * np.mean([one.rough[stage] for one in own]) for stage in (0, 1))
        lines.append(
            f"| {name} | {len(own)} | {sum(one.closed for one in own)} | {100 * furthest:.2f} | "
            f"{before:.1f} | {after:.1f} | {np.mean([one.area_ratio for one in own]):.3f} |"
        )
    return "\n".join(lines)
