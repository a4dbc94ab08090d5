"""Small NIfTI files for tests."""

import nibabel as nib
import numpy as np

STRAIGHT = np.diag([1.0, 1.0, 1.0, 1.0])
FLIPPED = np.array([[-1.5, 0, 0, 20], [0, -0.8, 0, 30], [0, 0, 3, -10], [0, 0, 0, 1.0]])
SLANT = np.array([[np.cos(0.5), -np.sin(0.5), 0], [np.sin(0.5), np.cos(0.5), 0], [0, 0, 1]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = SLANT @ np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
OBLIQUE[:3, :3] = OBLIQUE[:3, :3] @ np.diag([0.7, 0.9, 2.0])
OBLIQUE[:3, 3] = (5.0, -40.0, 12.0)
AFFINES = {"straight": STRAIGHT, "flipped": FLIPPED, "oblique": OBLIQUE}


def blocks(dtype=np.uint8):
    """Return a label map (12, 10, 8) with labels 1 and 2, and one stray voxel of each."""
    labels = np.zeros((12, 10, 8), dtype)
    labels[2:6, 2:8, 2:6] = 1
    labels[6:9, 2:8, 2:6] = 2
    labels[0, 0, 0] = 1
    labels[11, 9, 7] = 2
    return labels


def save(path, values, affine=STRAIGHT, sform=1, qform=1):
    """Write a volume with the given header codes and return its path."""
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine if sform else None, sform)
    image.set_qform(affine if qform else None, qform)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def save_with_nan_affine(path, values):
    """Write a volume whose sform holds NaN, which nibabel itself refuses to write."""
    save(path.with_suffix("").with_suffix(".nii"), values)
    plain = path.with_suffix("").with_suffix(".nii")
    content = bytearray(plain.read_bytes())
    content[280:284] = np.float32(np.nan).tobytes()  # srow_x[0]
    plain.unlink()
    nib.openers.Opener(path, "wb").write(bytes(content))
    return path
