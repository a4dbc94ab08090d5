"""Mutated inputs of other kinds: NRRD masks, files beside masks, organ packs, presets and options of a run."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import yaml

from scripts.cases.nrrd_file import WRITTEN_ON
from scripts.organ.places import PRESETS
from tests.fuzz.nifti_inputs import HEADER_CHANGES, NiftiFile, Rng, egg, place, write_sound
from tests.fuzz.nifti_inputs import KINDS as NIFTI_KINDS

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31 - 1, 2**63, 10**400, 1e9, 1e308, float("nan"), float("inf"), -float("inf"), 0.5,
    "", "false", "2e-4", "1e9", "nan", "egg", "../egg", "/etc/passwd", "$1+1", "@x", "%x", "x" * 5000, "é\n", "\ud800",
    [], {}, [1], [None], {"a": 1}, [[1]], {1: "egg"}, [1, 1, 1], [0, 0, 0], [1e9] * 3, {"name": "egg", "labels": [1]},
)  # fmt: skip
NRRD_LINES = {
    "type": ("uint8", "short", "float", "double", "block", "int64", "xyz", ""),
    "dimension": ("3", "0", "-1", "2", "4", "17", "x", "1e9"),
    "sizes": ("24 22 16", "16 22 24", "24 22", "0 0 0", "-1 22 16", "30000 30000 30000", "8448 1 1", "x", "24 22 16 1"),
    "space": ("left-posterior-superior", "LPS", "scanner-xyz", "", "ras", "3D-right-handed", "x"),
    "space directions": ("(1,0,0) (0,1,0) (0,0,1)", "none none none", "(0,0,0) (0,0,0) (0,0,0)", "(1,0,0)",
                         "(1,0) (0,1)", "(1e-6,0,0) (0,1e4,0) (0,0,1)", "(nan,0,0) (0,1,0) (0,0,1)",
                         "(inf,0,0) (0,1,0) (0,0,1)", "x"),
    "space origin": ("(0,0,0)", "(1e9,0,0)", "(nan,0,0)", "(0,0)", "x", ""),
    "encoding": ("gzip", "raw", "bzip2", "ascii", "hex", "x"),
    "endian": ("little", "big", "x"),
    "data file": ("x.raw", "/etc/passwd", "LIST", "x%d.raw 1 3 1"),
    "byte skip": ("-1", "10", "x", "1000000000000"),
    "line skip": ("-1", "10", "x", "1000000000000"),
    "kinds": ("domain domain domain", "list domain domain domain", "x"),
}  # fmt: skip


def _nrrd(folder: Path, name: str, rng: Rng, segments: bool) -> Path:
    affine = place(rng)
    header: dict[str, Any] = {"space": "right-anterior-superior", "space directions": affine[:3, :3].T,
                              "space origin": affine[:3, 3], "encoding": str(rng.choice(["raw", "gzip"]))}  # fmt: skip
    if segments:
        value = int(rng.choice([1, 0, -1, 2**31 - 1, 7]))
        header |= {"Segment0_Name": str(rng.choice(["egg", "Segment_1", "", "<b>"])), "Segment0_LabelValue": value}
        header |= {"Segment0_Layer": "0", "Segment0_Extent": str(rng.choice(["0 23 0 21 0 15", "x", "0 -1 0 -1 0 -1"]))}
    path = folder / f"{name}{'.seg' if segments or rng.random() < 0.3 else ''}.nrrd"
    nrrd.write(str(path), egg(rng), header)
    path.write_bytes(WRITTEN_ON.sub(b"", path.read_bytes(), count=1))
    return path


def _nrrd_header(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Lines of a NRRD header changed, left out or written twice."""
    path = _nrrd(folder, name, rng, bool(rng.random() < 0.3))
    head, _, data = path.read_bytes().partition(b"\n\n")
    lines = head.decode().split("\n")
    for _ in range(rng.integers(1, 4)):
        field = str(rng.choice(list(NRRD_LINES)))
        lines = [line for line in lines if not line.startswith(f"{field}:")]
        if rng.random() < 0.85:
            lines += [f"{field}: {rng.choice(NRRD_LINES[field])}"] * int(rng.choice([1, 1, 2]))
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + data)
    return [path]


def _nrrd_bytes(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Bytes of a NRRD file changed, or its end cut off."""
    path = _nrrd(folder, name, rng, bool(rng.random() < 0.5))
    content = bytearray(path.read_bytes())
    for spot in rng.integers(0, min(len(content), 600), rng.integers(0, 12)):
        content[spot] = rng.integers(256)
    path.write_bytes(content[: int(rng.integers(len(content)))] if rng.random() < 0.3 else content)
    return [path]


def _segments(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Segmentations of 3D Slicer with odd names, values and extents."""
    return [_nrrd(folder, name, rng, True)]


META_LINES = {
    "NDims": ("3", "2", "4", "0", "-1", "x"),
    "BinaryData": ("True", "False", "x"),
    "BinaryDataByteOrderMSB": ("True", "False", "x"),
    "CompressedData": ("True", "False", "x"),
    "CompressedDataSize": ("0", "-1", "99999999999", "x"),
    "HeaderSize": ("-1", "0", "100", "-5", "999999999999", "x"),
    "TransformMatrix": ("0 0 0 0 0 0 0 0 0", "1 0 0 0 1 0 0 0 nan", "1 0", "x", "0 1 0 1 0 0 0 0 1"),
    "Offset": ("0 0 1e9", "nan 0 0", "inf 0 0", "0 0", "x", "0 0 0"),
    "ElementSpacing": ("1e-6 1 1", "1e4 1 1", "0 1 1", "-1 1 1", "1 1", "x", "nan 1 1"),
    "DimSize": ("24 22 16", "24 22", "24 22 16 1", "0 0 0", "-24 22 16", "30000 30000 30000", "x", "8448 1 1"),
    "ElementNumberOfChannels": ("1", "3", "0", "x"),
    "ElementType": ("MET_UCHAR", "MET_DOUBLE", "MET_SHORT", "MET_FLOAT", "MET_LONG_LONG", "MET_x", ""),
    "ElementDataFile": ("LOCAL", "x.raw", "/etc/passwd", "../x.raw", "LIST", "x%d.raw 1 3 1", ""),
}


def _meta_image(folder: Path, name: str, rng: Rng) -> list[Path]:
    """MetaImage files with lines of the header changed, bytes changed, or the end cut off."""
    axes, packed = place(rng), bool(rng.random() < 0.5)
    spacing = np.linalg.norm(axes[:3, :3], axis=0)
    data = egg(rng).tobytes(order="F")
    lines = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
             "CompressedData": str(packed), "TransformMatrix": " ".join(map(str, (axes[:3, :3] / spacing).T.ravel())),
             "Offset": " ".join(map(str, axes[:3, 3])), "ElementSpacing": " ".join(map(str, spacing)),
             "DimSize": "24 22 16", "ElementType": "MET_UCHAR"}  # fmt: skip
    last = "LOCAL"
    for _ in range(rng.integers(0, 4)):
        field = str(rng.choice(list(META_LINES)))
        value = str(rng.choice(META_LINES[field]))
        last = value if field == "ElementDataFile" else last
        lines = {key: text for key, text in lines.items() if key != field} | ({field: value} if value != last else {})
    text = "".join(f"{key} = {value}\n" for key, value in lines.items()) + f"ElementDataFile = {last}\n"
    content = bytearray(text.encode() + (zlib.compress(data) if packed else data))
    for spot in rng.integers(0, min(len(content), 500), rng.integers(0, 6) if rng.random() < 0.4 else 0):
        content[spot] = rng.integers(256)
    path = folder / f"{name}.{rng.choice(['mha', 'mha', 'mhd'])}"
    path.write_bytes(content[: int(rng.integers(len(content)))] if rng.random() < 0.15 else content)
    return [path]


def _broken(text: str, rng: Rng) -> bytes:
    """Return a text with some bytes changed, or cut off."""
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for spot in rng.integers(0, max(len(content), 1), rng.integers(1, 8)):
        content[spot : spot + 1] = bytes([rng.integers(256)])
    return bytes(content[: rng.integers(len(content) + 1)] if rng.random() < 0.3 else content)


def _dataset_json(folder: Path, name: str, rng: Rng) -> list[Path]:
    """A mask, of wild labels too, beside nnU-Net's `dataset.json` with odd labels."""
    write = NIFTI_KINDS["labels"] if rng.random() < 0.5 else lambda *given: [write_sound(*given)]
    files = write(folder, name, rng)
    odd = VALUES[rng.integers(len(VALUES))]
    keys = ["egg", "background", "other", "1", "x", "2147483647", "-1"]
    labels: Any = {
        str(rng.choice(keys)): int(rng.choice([0, 1, 2, -1, 2**31 - 1, 2**40])) for _ in range(rng.integers(5))
    }
    if rng.random() < 0.6:
        labels[str(rng.choice(keys))] = odd
    described = {"labels": odd if rng.random() < 0.2 else labels, "channel_names": {"0": "CT"}}
    text = json.dumps(odd if rng.random() < 0.1 else described)
    deep = "[" * 100_000 if rng.random() < 0.05 else text
    content = _broken(text, rng) if rng.random() < 0.2 else deep.encode("utf-8", "surrogatepass")
    (folder / "dataset.json").write_bytes(content)
    return files


def _beside(name_of_folder: str, odd_kinds: tuple[str, ...]) -> Callable[[Path, str, Rng], list[Path]]:
    def write(folder: Path, name: str, rng: Rng) -> list[Path]:
        other = folder.parent / name_of_folder
        other.mkdir(exist_ok=True)
        NIFTI_KINDS[odd_kinds[rng.integers(len(odd_kinds))]](other, name, rng)
        return [write_sound(folder, name, rng)]

    return write


def _probabilities(folder: Path, name: str, rng: Rng) -> list[Path]:
    """A sound mask beside probabilities of which values or header are odd, or which are none."""
    other = folder.parent / "probabilities"
    other.mkdir(exist_ok=True)
    mask, affine = egg(rng), place(rng)
    if rng.random() < 0.3:
        NIFTI_KINDS[HEADERS[rng.integers(len(HEADERS))]](other, name, rng)
    else:
        inside = np.clip(mask + rng.normal(0, 0.05, mask.shape), 0, 1)
        values = np.stack([1 - inside, inside][:: int(rng.choice([1, 1, -1]))], -1).astype(np.float32)
        values = values * rng.choice([1.0, 1.0, 1.0, 100.0, -5.0]).astype(np.float32)
        if rng.random() < 0.2:
            values[tuple(rng.integers(0, values.shape))] = rng.choice([np.nan, np.inf, -1.0, 1e30])
        file = NiftiFile(values, affine)
        content = HEADER_CHANGES[rng.integers(len(HEADER_CHANGES))](file, rng) if rng.random() < 0.5 else None
        file.write(other / f"{name}.nii.gz", content)
    return [NiftiFile(mask, affine).write(folder / f"{name}.nii.gz")]


MASKS = NIFTI_KINDS | {
    "NRRD header": _nrrd_header,
    "NRRD bytes": _nrrd_bytes,
    "NRRD segments": _segments,
    "MetaImage": _meta_image,
}
"""Kinds of which many lie in one folder: (folder, case's name, generator) → the masks written."""

HEADERS = tuple(kind for kind in NIFTI_KINDS if kind != "names")
BESIDE = {"images": _beside("images", HEADERS), "probabilities": _probabilities}
"""The same, with a sound mask and an odd image or file of probabilities."""

ALONE = {"dataset.json": _dataset_json}
"""The same, of which one lies in a folder."""


def _replaced(settings: Any, rng: Rng) -> Any:
    """Return nested settings with one of their values, or keys, replaced, taken away or added."""
    if not isinstance(settings, (dict, list)) or not settings or rng.random() < 0.15:
        return VALUES[rng.integers(len(VALUES))]
    if isinstance(settings, list):
        place_ = rng.integers(len(settings))
        return [_replaced(one, rng) if n == place_ else one for n, one in enumerate(settings)]
    keys = list(settings)
    key = keys[rng.integers(len(keys))]
    if rng.random() < 0.1:
        return {k: v for k, v in settings.items() if k != key}
    if rng.random() < 0.1:
        odd = VALUES[rng.integers(len(VALUES))]
        return settings | {odd if odd is None or isinstance(odd, (str, int, float)) else "odd": 1}
    return settings | {key: _replaced(settings[key], rng)}


def _as_yaml(settings: Any, rng: Rng) -> bytes:
    text = yaml.safe_dump(settings, allow_unicode=bool(rng.random() < 0.5))
    if rng.random() < 0.1:
        text += str(
            rng.choice(["a: &a [*a]\n", "? [x]\n: 1\n", "name: x\nname: y\n", "<<: 1\n", "{" * 5000, "\t- x: :\n"])
        )
    return _broken(text, rng) if rng.random() < 0.15 else text.encode("utf-8", "surrogatepass")


def organ_yaml(sound: dict[str, Any], refine: dict[str, Any], rng: Rng) -> bytes:
    """Return a mutated organ.yaml; `sound` is a sound one, `refine` settings of which it may set one."""
    if rng.random() < 0.5:
        key = str(rng.choice(list(refine)))
        return _as_yaml(sound | {"refine": sound["refine"] | {key: VALUES[rng.integers(len(VALUES))]}}, rng)
    return _as_yaml(_replaced(sound, rng), rng)


def presets_yaml(rng: Rng) -> bytes:
    """Return mutated presets."""
    return _as_yaml(_replaced(yaml.safe_load(PRESETS.read_text(encoding="utf-8")), rng), rng)


def options(rng: Rng) -> dict[str, Any]:
    """Return odd options of the job."""
    names = ["organ", "preset", "source", "seed", "html", "image_dir", "prob_dir", "dataset_dir", "device"]
    names += ["mesh_format", "mesh_mm", "mesh_faces", "fine_mm", "grid"]
    odd = [value for value in VALUES if not (isinstance(value, str) and re.match(r"[$@%]", value))]
    odd += ["linear", "paper", "Linear", "own", "cpu", "cuda:99", "true", "no", "0", 3, "~", "."]
    return {str(name): odd[rng.integers(len(odd))] for name in rng.choice(names, rng.integers(1, 3), replace=False)}


def sound_mask(folder: Path, name: str, rng: Rng) -> list[Path]:
    """Write a sound mask, for runs whose settings are odd."""
    return [write_sound(folder, name, rng)]
