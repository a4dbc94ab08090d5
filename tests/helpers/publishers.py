"""Made-up downloads: DICOM series and NRRD files in random directions, with one marked voxel."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

SERIES = generate_uid(entropy_srcs=["series"])
SHAPE = (9, 7, 5)  # columns, rows, slices
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def frame_lps(seed: int, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Return an affine (4, 4), voxel → LPS mm, in a random right-handed direction; seed 0 is straight."""
    affine = np.eye(4)
    rotation = np.eye(3) if seed == 0 else Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    affine[:3, :3] = rotation @ np.diag(spacing_mm)
    affine[:3, 3] = np.random.default_rng(seed).uniform(-200, 200, 3).round(2)
    return affine


def write_series(folder: Path, values: np.ndarray, affine_lps: np.ndarray, seed: int = 0, **changes) -> None:
    """Write values (columns, rows, slices), HU, as one file a slice, under names and numbers in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    names = np.random.default_rng(seed).permutation(values.shape[2])
    for k in range(values.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", CTImageStorage)
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(k)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = folder / f"1-{names[k] + 1:03d}.dcm"
        ds = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = SERIES, "CT", int(names[k]) + 1
        ds.Columns, ds.Rows = values.shape[:2]
        ds.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]  # between rows, then between columns
        directions = (affine_lps[:3, :2] / spacing[:2]).T.reshape(-1)
        ds.ImageOrientationPatient = [f"{v:.12g}"[:16] for v in directions]
        position = affine_lps[:3, 2] * k + affine_lps[:3, 3]
        ds.ImagePositionPatient = [f"{v:.9g}"[:16] for v in position]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 0
        ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
        ds.PixelData = (values[:, :, k].T + 1024).astype("<u2").tobytes()
        for name, value in changes.items():
            setattr(ds, name, value)
        pydicom.dcmwrite(file, ds, enforce_file_format=True)


def write_nrrd(
    path: Path, values: np.ndarray, affine_lps: np.ndarray, space: str = "left-posterior-superior", **fields: str
) -> Path:
    """Write values (X, Y, Z) with their place in the patient, told in one of NRRD's spaces, and further fields."""
    signs = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1), "LAS": (1, -1, 1)}[space]
    told = np.diag([*signs, 1.0]) @ affine_lps
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"space": space, "space directions": told[:3, :3].T, "space origin": told[:3, 3], "encoding": "gzip"}
    nrrd.write(str(path), values, header | fields)
    return path


def write_layers(path: Path, layers: np.ndarray, affine_lps: np.ndarray, places: list[tuple[str, int, int]]) -> Path:
    """Write layers (L, X, Y, Z) of 3D Slicer's segments, each with its name, value and layer."""
    fields = {}
    for number, (name, value, layer) in enumerate(places):
        fields |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": str(value)}
        fields |= {f"Segment{number}_Layer": str(layer), f"Segment{number}_Extent": "0 1 0 1 0 1"}
    steps = np.vstack([[np.nan] * 3, affine_lps[:3, :3].T])
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"space": "left-posterior-superior", "space directions": steps, "space origin": affine_lps[:3, 3]}
    nrrd.write(str(path), layers, place | {"encoding": "gzip"} | fields)
    return path


def segments(names: dict[int, str], layer: int = 0) -> dict[str, str]:
    """The header's fields of 3D Slicer's segments: value → name."""
    fields = {"Segmentation_ContainedRepresentationNames": "Binary labelmap|"}
    for number, (value, name) in enumerate(names.items()):
        start = f"Segment{number}"
        fields |= {f"{start}_ID": f"Segment_{value}", f"{start}_Name": name, f"{start}_LabelValue": str(value)}
        fields |= {f"{start}_Layer": str(layer), f"{start}_Extent": "3 4 3 4 3 4"}
    return fields


def marked(shape: tuple[int, int, int] = SHAPE, index: tuple[int, int, int] = (7, 1, 3)) -> np.ndarray:
    """Return noise in HU with one voxel of 1500."""
    values = np.random.default_rng(5).integers(-1000, 900, shape)
    values[index] = 1500
    return values


def write_meta_image(path: Path, values: np.ndarray, affine_lps: np.ndarray, packed: bool = False) -> Path:
    """Write values (X, Y, Z) with their place in the patient as ITK writes `.mha` or `.mhd`."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    spacing_mm = np.linalg.norm(affine_lps[:3, :3], axis=0)
    image.SetSpacing(spacing_mm.tolist())
    image.SetDirection((affine_lps[:3, :3] / spacing_mm).ravel().tolist())
    image.SetOrigin(affine_lps[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path
