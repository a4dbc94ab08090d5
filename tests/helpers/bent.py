"""Label maps of a made-up organ: a bent ellipsoid of two parts, on grids of several kinds."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

RADII_MM = np.array([42.0, 24.0, 20.0])
TURN = Rotation.from_euler("zyx", [14, -9, 6], degrees=True).as_matrix()
GRIDS = {
    "plain": np.diag([2.5, 2.5, 2.5]),
    "thick": np.diag([-2.0, -2.0, 4.0]),
    "oblique": TURN @ np.diag([2.5, 2.2, 3.0]),
    "permuted": np.array([[0.0, 0.0, 2.6], [-2.6, 0.0, 0.0], [0.0, 2.6, 0.0]]),
}
MARGIN_MM = 30.0


def bent_organ(seed: int, grid: str) -> tuple[np.ndarray, np.ndarray]:
    """Label map (X, Y, Z) uint8, 1 on the left and 2 on the right, and its affine: size, bend, place, turn vary."""
    rng = np.random.default_rng(seed)
    radii = RADII_MM * rng.uniform(0.85, 1.15, 3)
    bend, split = rng.uniform(0.004, 0.010), rng.uniform(-6.0, 6.0)
    turn = Rotation.from_rotvec(rng.normal(0.0, 0.06, 3)).as_matrix()
    place = rng.uniform(-80.0, 80.0, 3)
    matrix = GRIDS[grid]
    half = np.linalg.norm(np.linalg.inv(matrix), axis=1) * (radii.max() + MARGIN_MM)
    shape = np.ceil(2 * half).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = place - matrix @ ((shape - 1) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    own = (index @ matrix.T + affine[:3, 3] - place) @ turn
    own[..., 1] += bend * own[..., 0] ** 2 - 0.3 * bend * radii[0] ** 2
    inside = ((own / radii) ** 2).sum(axis=-1) <= 1.0
    return (inside * np.where(own[..., 0] < split, 1, 2)).astype(np.uint8), affine


def write_organs(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Write label maps, the kinds of grids by turns."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(first, first + count):
        labels, affine = bent_organ(number, list(GRIDS)[number % len(GRIDS)])
        files.append(folder / f"organ_{number:02d}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), files[-1])
    return files
