"""Mutated NIfTI masks: one function a kind of mutation, each of which changes a sound file in one random way."""

from __future__ import annotations

import gzip
import string
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

Rng = np.random.Generator

SHAPE = (24, 22, 16)
SPACING_MM = np.array([1.5, 1.7, 2.4])
RADII_MM = np.array([10.0, 13.0, 12.0])
ODD = (0.0, -0.0, 1e-45, 1e-6, 1e-3, 0.5, -1.0, 1e4, 1e9, 1e30, -1e30, float("nan"), float("inf"), float("-inf"))
DATA_TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 77, -5)
PLAIN_TYPES = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", ">i2")
STRANGE = (
    "",
    " ",
    "ü",
    "名前",
    "\U0001f9e0",
    "..",
    "$x",
    "@x",
    "%x",
    "{x}",
    "a b",
    "'",
    '"',
    "<b>",
    "&",
    ";",
    "\\",
    "#",
)


def egg(rng: Rng) -> np.ndarray:
    """Return a damaged egg, (X, Y, Z) uint8: the organ of the fuzzer's pack."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    offset = (index - (np.array(SHAPE) - 1) / 2) * SPACING_MM
    mask = ((offset / (RADII_MM * rng.uniform(0.85, 1.15, 3))) ** 2).sum(-1) <= 1
    mask &= np.linalg.norm(offset - rng.uniform(-14, 14, 3), axis=-1) > rng.uniform(0, 8)
    return mask.astype(np.uint8)


def place(rng: Rng) -> np.ndarray:
    """Return a sound affine (4, 4): straight, flipped or oblique."""
    axes = np.diag(rng.choice([-1.0, 1.0], 3))
    if rng.random() < 0.3:
        axes = Rotation.from_rotvec(rng.uniform(-0.4, 0.4, 3)).as_matrix() @ axes
    affine = np.eye(4)
    affine[:3, :3] = axes * SPACING_MM
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


class NiftiFile:
    """A NIfTI-1 file in parts that can be changed one by one.

    Attributes:
        header: the fields of the header.
        extensions: the bytes between header and data.
        data: the bytes of the voxels.
    """

    def __init__(self, values: np.ndarray, affine: np.ndarray) -> None:
        image = nib.Nifti1Image(values, affine, dtype=values.dtype)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        self.header = image.header.structarr.copy()
        self.header["vox_offset"], self.header["magic"] = 352, b"n+1"
        self.header["scl_slope"], self.header["scl_inter"] = 1, 0
        self.extensions = bytes(4)
        self.data = values.tobytes(order="F")

    def content(self) -> bytes:
        """Return the bytes of the file."""
        return self.header.tobytes() + self.extensions + self.data

    def write(self, path: Path, content: bytes | None = None) -> Path:
        """Write the file, or other bytes in its place, compressed where the name says so."""
        content = self.content() if content is None else content
        path.write_bytes(gzip.compress(content, 1, mtime=0) if path.name.endswith(".gz") else content)
        return path


def sound(rng: Rng) -> NiftiFile:
    """Return a sound mask of a plain type."""
    values = egg(rng)
    return NiftiFile(values.astype(rng.choice(PLAIN_TYPES)), place(rng))


def _change(kind: Callable[[NiftiFile, Rng], bytes | None]) -> Callable[[Path, str, Rng], list[Path]]:
    """Return a mutation that writes one file; the function may return other bytes than the changed file's."""

    def write(folder: Path, name: str, rng: Rng) -> list[Path]:
        file = sound(rng)
        content = kind(file, rng)
        return [file.write(folder / f"{name}{rng.choice(['.nii.gz', '.nii.gz', '.nii'])}", content)]

    return write


def _odd(rng: Rng) -> float:
    return float(rng.choice(ODD)) if rng.random() < 0.7 else float(rng.normal() * 10.0 ** rng.integers(-9, 12))


def _whole(rng: Rng, bits: int) -> int:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return (
        int(rng.choice([low, -1, 0, 1, 2, 3, 7, 8, 100, high])) if rng.random() < 0.7 else int(rng.integers(low, high))
    )


def _dtype(file: NiftiFile, rng: Rng) -> None:
    file.header["datatype"] = int(rng.choice(DATA_TYPES))
    if rng.random() < 0.5:
        file.header["bitpix"] = int(rng.choice([0, 1, 8, 16, 24, 32, 64, 96, 128, -8]))
    if rng.random() < 0.7:
        file.data = file.data + rng.bytes(16 * len(file.data)) if rng.random() < 0.3 else file.data + bytes(200_000)


def _dims(file: NiftiFile, rng: Rng) -> None:
    shapes = ((24, 22), (24,), (24, 22, 16, 1), (24, 22, 8, 2), (24, 11, 2, 16), (24, 22, 1, 1, 16), (8448, 1, 1),
              (1, 1, 8448), (2, 4224, 1), (1, 1, 1), (0, 22, 16), (24, 22, 16, 0), (24, 22, 16, 1, 3),
              (30000, 30000, 30000), (2000, 2000, 300), (32767, 1, 1), (24, 22, -16))  # fmt: skip
    shape = shapes[rng.integers(len(shapes))]
    file.header["dim"][1 : 1 + len(shape)] = shape
    file.header["dim"][0] = len(shape) if rng.random() < 0.8 else _whole(rng, 16)
    if rng.random() < 0.3:
        file.header["dim"][rng.integers(8)] = _whole(rng, 16)


def _spacing(file: NiftiFile, rng: Rng) -> None:
    factors = np.where(rng.random(3) < 0.5, 10.0 ** rng.uniform(-7, 7, 3), 1.0)
    file.header["pixdim"][1:4] *= factors
    if rng.random() < 0.6:
        for name in ("srow_x", "srow_y", "srow_z"):
            file.header[name][:3] *= factors
    if rng.random() < 0.3:
        file.header["pixdim"][rng.integers(8)] = _odd(rng)
    if rng.random() < 0.3:
        file.header["xyzt_units"] = int(rng.integers(256))


def _affine(file: NiftiFile, rng: Rng) -> None:
    for _ in range(rng.integers(1, 4)):
        file.header[rng.choice(["srow_x", "srow_y", "srow_z"])][rng.integers(4)] = _odd(rng)
    if rng.random() < 0.2:
        file.header["srow_y"] = file.header["srow_x"] * (1 + 10.0 ** -rng.integers(0, 12))


def _forms(file: NiftiFile, rng: Rng) -> None:
    for code in ("sform_code", "qform_code"):
        if rng.random() < 0.6:
            file.header[code] = _whole(rng, 16) if rng.random() < 0.3 else int(rng.integers(0, 5))
    for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        if rng.random() < 0.25:
            file.header[field] = _odd(rng)
    if rng.random() < 0.2:
        file.header["pixdim"][0] = _odd(rng)


def _scale(file: NiftiFile, rng: Rng) -> None:
    file.header["scl_slope"] = _odd(rng)
    file.header["scl_inter"] = _odd(rng) if rng.random() < 0.5 else 0.0


def _offset(file: NiftiFile, rng: Rng) -> None:
    choices = (
        _odd(rng),
        rng.integers(0, 400),
        352 + rng.integers(-20, 20),
        352 + len(file.data),
        16 * rng.integers(30),
    )
    file.header["vox_offset"] = np.float32(choices[rng.integers(len(choices))])


def _extension(file: NiftiFile, rng: Rng) -> None:
    blocks = b""
    for _ in range(rng.integers(1, 4)):
        text = rng.choice([b"<xml/>", b"<CaretExtension><LabelTable/>", b"\xff\xfe", b"{}"]).ljust(24, b"\0")
        size = len(text) + 8 if rng.random() < 0.5 else _whole(rng, 32)
        code = int(rng.choice([0, 2, 4, 6, 18, 20, 30, 32, 34, 38, 42, 44, -1, 2**31 - 1]))
        blocks += struct.pack("<ii", size, code) + text
    flag = 1 if rng.random() < 0.8 else int(rng.integers(256))
    file.extensions = bytes([flag, *rng.bytes(3)]) + (blocks if rng.random() < 0.9 else blocks[:-5])
    file.header["vox_offset"] = 348 + len(file.extensions) if rng.random() < 0.7 else 352


def _truncated(folder: Path, name: str, rng: Rng) -> list[Path]:
    path = sound(rng).write(folder / f"{name}{rng.choice(['.nii.gz', '.nii'])}")
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.choice([0, 1, 2, 10, 100, 347, 348, 352, len(content) // 2, len(content) - 1]))])
    return [path]


def _garbage(file: NiftiFile, rng: Rng) -> bytes:
    content = bytearray(file.content())
    among = 352 if rng.random() < 0.7 else len(content)
    for place_ in rng.integers(0, among, rng.integers(1, 30)):
        content[place_] = rng.integers(256)
    return rng.bytes(rng.integers(0, 2000)) if rng.random() < 0.1 else bytes(content)


def _corrupt(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Change bytes of the compressed file."""
    path = sound(rng).write(folder / f"{name}.nii.gz")
    content = bytearray(path.read_bytes())
    for place_ in rng.integers(0, len(content), rng.integers(1, 10)):
        content[place_] = rng.integers(256)
    path.write_bytes(content)
    return [path]


def _values(folder: Path, name: str, rng: Rng, values: np.ndarray) -> list[Path]:
    return [NiftiFile(values, place(rng)).write(folder / f"{name}.nii.gz")]


def _voxels(folder: Path, name: str, rng: Rng) -> list[Path]:
    """NaN, infinity, fractions and numbers that no label is."""
    values = egg(rng).astype(rng.choice(["float32", "float64", "complex64"]))
    some = tuple(rng.integers(0, SHAPE, (rng.integers(1, 50), 3)).T)
    values[some] = _odd(rng) if rng.random() < 0.7 else rng.random(len(some[0]))
    return _values(folder, name, rng, values * (rng.uniform(0.9, 1.1) if rng.random() < 0.2 else 1))


def _labels(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Wild and huge labels, more of them or fewer, of all types."""
    kind = np.dtype(rng.choice([t for t in PLAIN_TYPES if "float" not in t]))
    limits = np.iinfo(kind)
    odd = [limits.min, limits.max, 2, 3, 7, 255 % limits.max, -1 if limits.min else 0]
    values = egg(rng).astype(kind)
    for _ in range(rng.integers(1, 5)):
        box = tuple(slice(a, a + int(rng.integers(1, 12))) for a in rng.integers(0, SHAPE))
        wild = rng.random() < 0.6
        values[box] = (
            odd[rng.integers(len(odd))] if wild else rng.integers(limits.min, limits.max, dtype=kind.newbyteorder("="))
        )
    if rng.random() < 0.2:
        values = rng.integers(limits.min, limits.max, SHAPE, dtype=kind.newbyteorder("=")).astype(kind)
    return _values(folder, name, rng, values)


def _shapes(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Empty, full and odd masks, on grids of one voxel up to a few thousand."""
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 8, 24, 60], 3)) if rng.random() < 0.6 else SHAPE
    values = np.zeros(shape, np.uint8)
    choice = rng.integers(8)
    if choice == 1:
        values[:] = 1
    elif choice == 2:
        values[tuple(rng.integers(0, shape))] = 1
    elif choice == 3:
        values[tuple(rng.integers(0, n) if a < rng.integers(3) else slice(None) for a, n in enumerate(shape))] = 1
    elif choice == 4:
        values[:] = rng.random(shape) < rng.uniform(0, 1)
    elif choice == 5:
        values[:] = np.indices(shape).sum(0) % 2
    elif choice == 6:
        values[: shape[0] // 3] = values[-(shape[0] // 3) - 1 :] = 1
    elif choice == 7:
        values[:] = 1
        values[tuple(slice(n // 4, n // 2 + 1) for n in shape)] = 0
    return _values(folder, name, rng, values)


def _names(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Names that files may have: scripts, spaces, quotes, bytes that are no UTF-8, hundreds of letters."""
    letters = "".join(rng.choice(list(string.printable.replace("/", "")), rng.integers(1, 20)))
    stems = (
        *STRANGE,
        letters,
        "x" * 200,
        "report.json",
        "as_given",
        "a_initial",
        "egg",
        "CON",
        "x\n",
        "-h",
        "--x",
        "é\udce9",
    )
    stem = f"{stems[rng.integers(len(stems))]}{name if rng.random() < 0.7 else ''}"
    path = folder / f"{stem if stem.strip('.') else name}{rng.choice(['.nii.gz', '.nii', '.NII.GZ', '.nii.gz.nii.gz'])}"
    if path.name.startswith("."):
        path = folder / f"x{path.name}"
    sound(rng).write(path)
    return [path]


def _several(file: NiftiFile, rng: Rng) -> bytes | None:
    """Some of the mutations of a header together."""
    for change in rng.choice([_dtype, _dims, _spacing, _affine, _forms, _scale, _offset, _extension], 3):  # type: ignore[arg-type]
        change(file, rng)
    return None


HEADER_CHANGES = (_dtype, _dims, _spacing, _affine, _forms, _scale, _offset, _extension, _garbage)
KINDS: dict[str, Callable[[Path, str, Rng], list[Path]]] = {
    "data type": _change(_dtype),
    "dimensions": _change(_dims),
    "spacing and units": _change(_spacing),
    "affine": _change(_affine),
    "sform and qform": _change(_forms),
    "scaling": _change(_scale),
    "data offset": _change(_offset),
    "extensions": _change(_extension),
    "several of a header": _change(_several),
    "bytes": _change(_garbage),
    "compressed bytes": _corrupt,
    "truncated": _truncated,
    "NaN and fractions": _voxels,
    "labels": _labels,
    "empty, full, odd": _shapes,
    "names": _names,
}


def write_sound(folder: Path, name: str, rng: Rng) -> Any:
    """Write a sound mask."""
    return NiftiFile(egg(rng), place(rng)).write(folder / f"{name}.nii.gz")
