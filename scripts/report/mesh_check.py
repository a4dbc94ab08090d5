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
from ..geometry.distance import surface_distance
from ..geometry.surface import crop_box, sample_surface
from ..metrics.smoothness import rough_share
from ..organ.several import load_packs
from .gallery import Exhibit, draw_gallery
from .pictures import Camera
from .run_folder import Run

GREY = (205, 200, 190)
SHOWN = 3  # structures of the picture
DPI = 150
COLUMNS = ("structure", "n", "closed, outward", "triangles", "volume off %, at most", "rough %: voxels", "mesh", "area")
OTHER_COLUMNS = ("other mesh", "apart mm: mean", "95 %", "at most")
POINTS, FAR_PERCENT = 5000, 95  # of a surface


@dataclass(frozen=True)
class Beside:
    """One structure's mesh of another run, beside the first one's.

    Attributes:
        rough: share of its normals more than 20° off within a voxel.
        apart_mm: (N,) from places spread over both surfaces to the other one.
    """

    rough: float
    apart_mm: np.ndarray


@dataclass(frozen=True)
class Checked:
    """One structure's mesh against the surface of its voxels.

    Attributes:
        name: of the structure.
        closed: whether the mesh is watertight, with normals outward.
        triangles: how many it has.
        volume_off: volume beyond the mask's, as a share of it.
        rough: share of normals more than 20° off within a voxel, of the voxels' surface and of the mesh.
        area_ratio: area of the mesh over that of the voxels' surface.
        other: what the mesh is beside another run's; None where there is none.
    """

    name: str
    closed: bool
    triangles: int
    volume_off: float
    rough: tuple[float, float]
    area_ratio: float
    other: Beside | None = None


def meshes(run_dir: str, picture: str = "", other_dir: str = "") -> str:
    """Check a run's meshes, and compare them with plain marching cubes of the refined masks.

    Args:
        run_dir: output folder of `refine` or `segment`, with meshes as STL or PLY (which is beside every format).
        picture: PNG file to draw of the first case: the voxels' surface, the mesh, and the other run's.
        other_dir: output folder of another run of the same masks, drawn in another way, to measure how far its meshes
            lie from these.

    Returns:
        A Markdown table, one row a structure.

    Raises:
        ValueError: the run has no mesh, or the other one lacks one of them.
        OrganError: the run's organ pack is not at hand.
    """
    run, other = Run.open(run_dir), Run.open(other_dir) if other_dir else None
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
            camera = Camera.facing(voxels)
            drawn.append([_exhibit(f"{shape.name}: voxels", voxels, camera), _exhibit("mesh", mesh, camera)])
            its = None if other is None else _mesh_of(other, record["case"], shape.name)
            found.append(check(shape.name, mesh, voxels, mask, affine, its))
            drawn[-1] += [] if its is None else [_exhibit("other mesh", its, camera)]
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


def check(
    name: str,
    mesh: trimesh.Trimesh,
    voxels: trimesh.Trimesh,
    mask: np.ndarray,
    affine: np.ndarray,
    other: trimesh.Trimesh | None = None,
) -> Checked:
    """Compare a mesh with the surface of the voxels (X, Y, Z) that it is of, and with another; `affine` is to world."""
    volume_mm3 = np.count_nonzero(mask) * voxel_volume_mm3(affine)
    voxel_mm = float(np.cbrt(voxel_volume_mm3(affine)))
    return Checked(
        name,
        bool(mesh.is_watertight and mesh.volume > 0),
        len(mesh.faces),
        float(mesh.volume) / volume_mm3 - 1.0,
        (rough_share(voxels, voxel_mm), rough_share(mesh, voxel_mm)),
        float(mesh.area / voxels.area),
        None if other is None else Beside(rough_share(other, voxel_mm), apart_mm(mesh, other)),
    )


def apart_mm(one: trimesh.Trimesh, other: trimesh.Trimesh) -> np.ndarray:
    """Return the distances (N,) in mm from places spread evenly over each of two surfaces to the other one."""
    ways = ((one, other), (other, one))
    return np.concatenate([surface_distance(there, sample_surface(here, POINTS, seed=0)[0]) for here, there in ways])


def _mesh_of(run: Run, case: str, structure: str) -> trimesh.Trimesh:
    files = [run.mesh_file(record, structure) for record in run.report["cases"] if record["case"] == case]
    if not files or files[0] is None:
        raise ValueError(f"{run.folder} has no mesh of {structure} of the case {case}: refine the same masks for both")
    return read_mesh(files[0], join=True)


def _exhibit(title: str, mesh: trimesh.Trimesh, camera: Camera) -> Exhibit:
    return Exhibit(title, mesh, np.tile(np.array(GREY, np.uint8), (len(mesh.vertices), 1)), camera)


def _table(found: Sequence[Checked]) -> str:
    columns = [*COLUMNS, *(OTHER_COLUMNS if found[0].other else ())]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in dict.fromkeys(one.name for one in found):
        own = [one for one in found if one.name == name]
        furthest = max(abs(one.volume_off) for one in own)
        before, after = (100 * np.mean([one.rough[stage] for one in own]) for stage in (0, 1))
        cells = [name, len(own), sum(one.closed for one in own), round(np.mean([one.triangles for one in own]))]
        cells += [f"{100 * furthest:.2f}", f"{before:.1f}"]
        cells += [f"{after:.1f}", f"{np.mean([one.area_ratio for one in own]):.3f}"]
        others = [one.other for one in own if one.other is not None]
        if others:
            apart = np.concatenate([other.apart_mm for other in others])
            cells += [f"{100 * np.mean([other.rough for other in others]):.1f}", f"{apart.mean():.2f}"]
            cells += [f"{np.percentile(apart, FAR_PERCENT):.2f}", f"{apart.max():.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
