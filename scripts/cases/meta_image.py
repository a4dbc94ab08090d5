"""MetaImage volumes (`.mha`; `.mhd` with its data beside it), as ITK's tools write them, in the world that NIfTI has.

A header is lines of text, the last of which says where the voxels are. It is read here rather than by ITK, so that
a result keeps every line of the header it came with, and a damaged file is an error and not a crash.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..geometry.affine import check_affine

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
LOCAL = "LOCAL"  # of data that follow the header in the same file
LONGEST_HEADER = 1 << 16
ANY_WRAPPING = 47  # zlib finds out whether data are wrapped as zlib's or gzip's
MOST_COMPRESSION = 1100  # a file of zlib's is at most 1032 times smaller than its data
COMPRESSED_SIZE = re.compile(rb"^CompressedDataSize *=[^\n]*\n", re.M)


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Attributes:
        text: as it stands in the file, to the end of its last line.
        fields: name → value.
    """

    text: bytes
    fields: dict[str, str]

    @classmethod
    def of(cls, path: Path) -> Header:
        """Read a file's header.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no MetaImage.
        """
        with open(path, "rb") as file:
            start = file.read(LONGEST_HEADER)
        end = re.search(rb"^ElementDataFile *=[^\n]*\n?", start, re.M)
        if end is None:
            raise ValueError("its header names no data")
        text = start[: end.end()]
        pairs = (line.partition("=") for line in text.decode("latin-1").splitlines())
        return cls(text, {name.strip(): value.strip() for name, _, value in pairs})

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis, fastest first."""
        return tuple(int(n) for n in self.fields.get("DimSize", "").split())

    @property
    def dtype(self) -> np.dtype:
        """The type of the voxels, with their byte order."""
        name = self.fields.get("ElementType", "")
        if name not in TYPES:
            raise ValueError(f"its voxels are of the type {name[:40] or 'none'}")
        is_big = any(self.is_true(key) for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
        return np.dtype((">" if is_big else "<") + TYPES[name])

    @property
    def data_name(self) -> str:
        """The name of the data's file, which lies beside the header's; `LOCAL` where they are one.

        Raises:
            ValueError: it is another file, or a list of several.
        """
        name = self.fields["ElementDataFile"]
        if name.upper() == LOCAL:
            return LOCAL
        if not name or Path(name).name != name or "\\" in name or name.upper() == "LIST" or "%" in name:
            raise ValueError(f"its voxels lie in {name[:80]!r}, which is not one file beside it")
        return name

    def is_true(self, name: str) -> bool:
        """Whether a field says "True"."""
        return self.fields.get(name, "").lower() in ("true", "t", "1")

    def numbers(self, names: tuple[str, ...], default: np.ndarray) -> np.ndarray:
        """Return the numbers of the first field that is there, in the default's shape; the default where none is."""
        told = next((self.fields[name] for name in names if name in self.fields), None)
        return default if told is None else np.array(told.split(), dtype=float).reshape(default.shape)

    def affine(self) -> np.ndarray:
        """Return the affine (4, 4), voxel index → world mm, RAS+.

        The format's world is LPS. `TransformMatrix` holds one axis' direction a row, `Offset` is the centre of the
        first voxel. What a header does not say is what ITK takes it for: straight axes, 1 mm, no offset.
        """
        affine = np.eye(4)
        directions = self.numbers(("TransformMatrix", "Rotation", "Orientation"), np.eye(3))
        spacing_mm = self.numbers(("ElementSpacing", "ElementSize"), np.ones(3))
        affine[:3, :3] = directions.T * spacing_mm
        affine[:3, 3] = self.numbers(("Offset", "Origin", "Position"), np.zeros(3))
        return check_affine(LPS_TO_RAS @ affine)


def read_meta_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a MetaImage volume.

    Returns:
        The values (X, Y, Z) in the type stored but this machine's byte order, axes in the file's order (fastest first),
        and the affine (4, 4), voxel index → world mm, RAS+.

    Raises:
        ValueError: the file is no MetaImage of one 3D volume, or its data are not whole.
    """
    try:
        header = Header.of(path)
        shape, dtype = header.shape, header.dtype
        if len(shape) != 3 or min(shape) < 1 or header.fields.get("ElementNumberOfChannels", "1") != "1":
            raise ValueError(f"it has the shape {shape}, not that of one 3D volume with one value a voxel")
        if header.fields.get("BinaryData", "True").lower() not in ("true", "t", "1"):
            raise ValueError("its voxels are written as text")
        data = _data(header, path, math.prod(shape) * dtype.itemsize)
        values = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))  # which is writable
        return values.reshape(shape, order="F"), header.affine()
    except (OSError, ValueError, KeyError, OverflowError, MemoryError, zlib.error) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as MetaImage ({line}): copy or export it again") from error


def _data(header: Header, path: Path, size: int) -> bytes:
    """Return the bytes of a file's voxels.

    Raises:
        OSError: its data cannot be read.
        ValueError: they are not `size` bytes.
    """
    is_local = header.data_name == LOCAL
    file = path if is_local else path.with_name(header.data_name)
    is_packed = header.is_true("CompressedData")
    if size > file.stat().st_size * (MOST_COMPRESSION if is_packed else 1):  # do not allocate it
        raise ValueError("it is truncated")
    skipped = int(header.fields.get("HeaderSize", "0"))
    with open(file, "rb") as opened:
        opened.seek(len(header.text) if is_local else max(skipped, 0))
        data = opened.read()
    if is_packed:
        data = zlib.decompressobj(ANY_WRAPPING).decompress(data, size)
    elif skipped == -1:  # they are the last of the file
        data = data[-size:]
    if len(data) < size:
        raise ValueError("it is truncated")
    return data[:size]


def data_file(path: Path) -> Path | None:
    """Return the file beside a `.mhd` that holds its voxels; None where they are in it, or it cannot be read."""
    try:
        name = Header.of(path).data_name
    except (OSError, ValueError, KeyError):
        return None
    return None if name == LOCAL else path.with_name(name)


def like(stored: np.ndarray, reference: Path) -> tuple[bytes, bytes]:
    """Return header and data of values (X, Y, Z) with the header of another file, on the same grid.

    Every line of the header stays but the size of compressed data.

    Args:
        stored: (X, Y, Z) values that the reference's data type holds.
        reference: a MetaImage file.

    Returns:
        What stands in the header, and the voxels; one file where the header says that they are local.
    """
    header = Header.of(reference)
    data = stored.astype(header.dtype).tobytes(order="F")
    text = header.text if header.text.endswith(b"\n") else header.text + b"\n"
    if header.is_true("CompressedData"):
        data = zlib.compress(data)
        text = COMPRESSED_SIZE.sub(b"CompressedDataSize = %d\n" % len(data), text)
    if header.data_name != LOCAL:
        data = bytes(max(int(header.fields.get("HeaderSize", "0")), 0)) + data
    return text, data
