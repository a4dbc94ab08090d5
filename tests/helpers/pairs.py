"""A paired organ as two ellipsoids under one label map, on grids of many kinds."""

from types import MappingProxyType

import nibabel as nib
import numpy as np
import yaml

CENTRE = np.array([-230.0, 15.0, 40.0])  # world mm, the middle of the volume
RADII = np.array([14.0, 18.0, 28.0])
ACROSS_MM = 34.0  # of an ellipsoid's centre from the middle
AXES = {
    "straight": np.eye(3),
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "slices first": np.array([[0, 0, -1.0], [0, -1.0, 0], [-1.0, 0, 0]]),  # axes I, P, L
    "oblique": np.array(
        [[0.91, -0.39, 0.12], [0.41, 0.89, -0.19], [-0.03, 0.22, 0.97]],
    ),
}
SPACINGS = {"fine": (2.0, 2.0, 2.0), "anisotropic": (1.5, 2.5, 4.0), "thick slices": (6.0, 2.0, 2.0)}


def grid(axes: str = "straight", spacing: str = "fine", size_mm: float = 140.0) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a volume about `CENTRE`."""
    q, _ = np.linalg.qr(AXES[axes])
    q = q * np.sign(np.sum(q * AXES[axes], axis=0))  # the orthogonal matrix next to it
    shape = np.ceil(size_mm / np.array(SPACINGS[spacing])).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = q @ np.diag(SPACINGS[spacing])
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((shape - 1) / 2)
    return tuple(int(n) for n in shape), affine


def world(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """World points (X, Y, Z, 3) relative to `CENTRE`."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3] - CENTRE


def ball(points: np.ndarray, centre, radii=RADII) -> np.ndarray:
    """Voxels (X, Y, Z) bool of an ellipsoid about a point relative to `CENTRE`."""
    return (((points - np.asarray(centre)) / radii) ** 2).sum(-1) <= 1


def kidneys(points: np.ndarray, stretch: float = 1.0) -> dict[str, np.ndarray]:
    """Side → ellipsoid; the right one, at larger world x, lies lower. Both lean outwards at the bottom."""
    both = {}
    for side, sign in (("left", -1.0), ("right", 1.0)):
        own = points - np.array([sign * ACROSS_MM, 0.0, -4.0 * (side == "right")])
        own = own + np.array([sign * 0.25, 0.0, 0.0]) * own[..., 2:3]
        both[side] = ((own / (RADII * [1.0, 1.0, stretch])) ** 2).sum(-1) <= 1
    return both


def both_kidneys(axes: str, spacing: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label map, 2 the right and 3 the left one, its affine, and its points."""
    shape, affine = grid(axes, spacing)
    points = world(shape, affine)
    both = kidneys(points)
    return np.where(both["right"], 2, np.where(both["left"], 3, 0)).astype(np.uint8), affine, points


def write_pack(folder, mirrors=MappingProxyType({"right": "auto", "left": "auto"}), **settings):
    """An organ pack of a paired organ with a part, both under shared labels."""
    structures = [
        {"name": f"kidney_{side}", "labels": [1, 2], "side": side, "mirror": mirror, "prior": "kidney.safetensors"}
        for side, mirror in mirrors.items()
    ]
    pack = {"name": "kidneys", "labels": {1: "kidney", 2: "tumour"}, "structures": structures, **settings}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "organ.yaml").write_text(yaml.safe_dump(pack))
    return folder


def label_map(points: np.ndarray, stretch: float = 1.0) -> np.ndarray:
    """Both ellipsoids, 1, the right one's upper end 2."""
    both = kidneys(points, stretch)
    labels = (both["left"] | both["right"]).astype(np.uint8)
    labels[both["right"] & (points[..., 2] > 12)] = 2
    return labels


def save(path, labels: np.ndarray, affine: np.ndarray):
    """Write a label map and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path
