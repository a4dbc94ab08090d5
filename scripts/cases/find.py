"""Which cases a run has: files found by name, before anything is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

SUFFIXES = (".nii.gz", ".nii")
SEGMENTATION, NRRD = ".seg.nrrd", ".nrrd"  # of masks, where NIfTI is not asked for; the first is 3D Slicer's
NETWORK_OUTPUT = ".npz"  # of nnU-Net's --save_probabilities
MONAI_ENDINGS = ("_trans", "_seg")  # which MONAI's SaveImage puts at the end of a result's name
OTHER_FORMATS = (
    ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".hdr", ".img", ".img.gz", ".mnc", ".gipl", ".dcm", ".nii.xz",
)  # fmt: skip
FIRST_CHANNEL = "_0000"  # which nnU-Net puts at the end of an image's name
CONVERT = ": convert it to .nii.gz, for example with 3D Slicer or SimpleITK"
NAMED_AT_MOST = 5  # files in a message
IMAGE, PROB = "image", "prob"  # keys of a case's evidence
CASE, REASON = "case", "reason"  # keys of a case's dictionary: its name, and why it cannot be run ("" if it can)


logger = logging.getLogger(__name__)


def case_name(path: str | Path) -> str:
    """Return a file's name without folder and `.nii.gz`, `.nii`, `.seg.nrrd` or `.nrrd`.

    Raises:
        ValueError: the name has another ending.
    """
    name = Path(path).name
    for suffix in (*SUFFIXES, SEGMENTATION, NRRD):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    raise ValueError(f"{path} is not a NIfTI file (.nii.gz or .nii){CONVERT}")


def is_nrrd(path: str | Path) -> bool:
    """Whether a file's name is that of a NRRD file."""
    return Path(path).name.lower().endswith(NRRD)


def list_volumes(folder: str | Path) -> list[Path]:
    """Return the NIfTI files of a folder, not of its subfolders, sorted by name; or the one file that is given.

    Raises:
        ValueError: there is no such folder or file, or it holds no NIfTI file.
    """
    folder = Path(folder)
    if folder.is_file():
        if not folder.name.lower().endswith(SUFFIXES):
            raise ValueError(f"{folder} is not a NIfTI file (.nii.gz or .nii){CONVERT}")
        return [folder]
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; give a folder of NIfTI files, or one such file")
    files = volumes_of(folder)
    if not files:
        others = unread(folder, files)
        raise ValueError(
            f"{folder} holds no .nii.gz or .nii file (subfolders are not searched){others and '; '}{others}"
        )
    return files


def list_masks(path: str | Path) -> list[Path]:
    """Return the label maps of a folder, NIfTI or NRRD, sorted by name; or the one file that is given.

    A `.nrrd` whose name is another label map's, or begins with it up to a '_', is that one's image.

    Raises:
        ValueError: see `list_volumes`.
    """
    folder = Path(path)
    if folder.is_file() and is_nrrd(folder):
        return [folder]
    return (masks_of(folder) if folder.is_dir() else []) or list_volumes(folder)


def masks_of(folder: Path) -> list[Path]:
    """Return the label maps of a folder, see `list_masks`; [] where there are none."""
    volumes, others = volumes_of(folder), _nrrd_files(folder)
    certain = {case_name(f) for f in (*volumes, *others) if not is_nrrd(f) or _is_segmentation(f)}
    masks = [f for f in others if _is_segmentation(f) or match_name(case_name(f), certain) is None]
    return sorted([*volumes, *masks])


def _nrrd_files(folder: Path) -> list[Path]:
    return [f for f in folder.iterdir() if is_nrrd(f) and f.name[0] != "." and is_file_or_link(f)]


def _is_segmentation(file: Path) -> bool:
    return file.name.lower().endswith(SEGMENTATION)


def volumes_of(folder: Path) -> list[Path]:
    """Return the NIfTI files of a folder, sorted by name; hidden ones are none."""
    return sorted(
        f for f in folder.iterdir() if f.name.lower().endswith(SUFFIXES) and f.name[0] != "." and is_file_or_link(f)
    )


def nested_volumes(folder: Path) -> list[Path]:
    """Return the files of MONAI's own layout, `<case>/<case>_trans.nii.gz`, one a subfolder, sorted.

    Of several in a subfolder, the one that has MONAI's ending for results is taken.
    """
    found = []
    for inner in sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != "."):
        files = [f for f in volumes_of(inner) if case_name(f) == inner.name or f.name.startswith(f"{inner.name}_")]
        results = [f for f in files if case_name(f).endswith(MONAI_ENDINGS)]
        found += files if len(files) == 1 else results if len(results) == 1 else []
    return found


def unread(folder: Path, listed: Iterable[Path]) -> str:
    """Return which volumes of a folder are in formats that are not read, and the remedy; "" where there are none.

    Args:
        folder: a folder, or a file.
        listed: what is read of it. The NRRD images of 3D Slicer's segmentations are no masks, and are not named.
    """
    if not folder.is_dir():
        return ""
    segmented = {case_name(f) for f in listed if _is_segmentation(f)}
    found = {f for f in folder.iterdir() if f.name.lower().endswith(OTHER_FORMATS) and f.name[0] != "."} - set(listed)
    names = sorted(f.name for f in found if not is_nrrd(f) or match_name(case_name(f), segmented) is None)
    if not names:
        return ""
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return (
        f"not read: {', '.join(names[:NAMED_AT_MOST])}{more}: convert them to .nii.gz, for example with 3D Slicer or "
        "SimpleITK"
    )


def list_images(path: str | Path) -> list[Path]:
    """Return the images of a folder, NIfTI or NRRD, sorted by name; or the one file that is given.

    Raises:
        ValueError: see `list_volumes`.
    """
    folder = Path(path)
    if folder.is_file() and is_nrrd(folder):
        return [folder]
    images = [f for f in _nrrd_files(folder) if not _is_segmentation(f)] if folder.is_dir() else []
    return sorted([*volumes_of(folder), *images]) if images else list_volumes(folder)


def list_probabilities(folder: str | Path) -> list[Path]:
    """Return the files of class probabilities of a folder: nnU-Net's `.npz` where it has such, else NIfTI files.

    Raises:
        ValueError: see `list_volumes`.
    """
    folder = Path(folder)
    if folder.is_file() and folder.name.lower().endswith(NETWORK_OUTPUT):
        return [folder]
    arrays = sorted(folder.glob(f"[!.]*{NETWORK_OUTPUT}")) if folder.is_dir() else []
    return arrays or list_volumes(folder)


def is_file_or_link(path: Path) -> bool:
    """Whether a path is a file, or a link to nothing: that is a case that cannot be read, not one that is not there."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def match_name(name: str, candidates: Iterable[str]) -> str | None:
    """Return the longest candidate that is the name itself or its beginning up to a '_'; None where there is none.

    So the prediction `thorax_09_seed123` belongs to the image `thorax_09`, not to `thorax_0` or `thorax`.
    """
    fitting = [c for c in candidates if name == c or name.startswith(c + "_")]
    return max(fitting, key=len, default=None)


def find_cases(
    dataset_dir: str | Path,
    key: str,
    evidence_dirs: Mapping[str, str | Path | None] | None = None,
    find: Callable[[str | Path], list[Path]] = list_volumes,
) -> list[dict[str, Any]]:
    """Find the cases of a run.

    Args:
        dataset_dir: folder of NIfTI files, one a case, or one such file; or what `find` takes.
        key: the dictionary key under which a case's file goes ("pred" for masks, "image" for images).
        evidence_dirs: further key → folder with files of the same names (`match_name`), or with nnU-Net's ending
            `_0000`, or one such file for a single file; None for a key not given. Those of `PROB` may be nnU-Net's
            (`list_probabilities`).
        find: `dataset_dir` → its cases, files or folders.

    Returns:
        One dictionary of paths a case, sorted by name: `case`, `reason`, the key, and every evidence key found.
        `reason` is "" but for files whose names give the same case, and of which none can be chosen.

    Raises:
        ValueError: a folder is missing or holds no NIfTI file.
    """
    cases: dict[str, dict[str, Any]] = {}
    read = {Path(dataset_dir): find(dataset_dir)}
    for path in read[Path(dataset_dir)]:
        name = path.name if path.is_dir() else case_name(path)
        if name in cases:
            cases[name][REASON] = f"{cases[name][key]} and {path} are both case '{name}': rename or remove one"
        else:
            cases[name] = {CASE: name, REASON: "", key: str(path)}
    for evidence, folder in (evidence_dirs or {}).items():
        if folder:
            listed = list_probabilities(folder) if evidence == PROB else list_images(folder)
            read.setdefault(Path(folder), []).extend(listed)
            files = {path.stem if path.suffix == NETWORK_OUTPUT else case_name(path): path for path in listed}
            if len(cases) == len(files) == 1 and Path(folder).is_file() and Path(dataset_dir).is_file():
                files = dict.fromkeys(cases, *files.values())  # two single files are meant for each other
            for name, case in cases.items():
                fits = match_name(name, files) or (name + FIRST_CHANNEL if name + FIRST_CHANNEL in files else None)
                if fits is not None:
                    case[evidence] = str(files[fits])
    for place, listed in read.items():
        others = unread(place, listed)
        if others:
            logger.warning("%s: %s", place, others)
    return list(cases.values())


class CaseDataset(Dataset):
    """The cases of a run as dictionaries of paths; nothing is read, so that one bad file stops no other case.

    A folder that cannot be used does not raise here but stands in `problem`: hosts build the dataset too, and have
    none. Arguments are those of `find_cases`, with `image_dir` and `prob_dir` for its evidence.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        key: str = "pred",
        image_dir: str | Path | None = None,
        prob_dir: str | Path | None = None,
        find: Callable[[str | Path], list[Path]] = list_volumes,
    ) -> None:
        self.key = key
        self.evidence = [k for k, folder in ((IMAGE, image_dir), (PROB, prob_dir)) if folder]
        self.problem = ""
        self.data: list[dict[str, Any]] = []
        folders = {name: folder and str(folder) for name, folder in ((IMAGE, image_dir), (PROB, prob_dir))}
        try:
            self.data = find_cases(str(dataset_dir), key, folders, find)  # a folder 2024 comes as a number
        except (OSError, ValueError) as error:
            self.problem = str(error)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.data[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(case) for case in self.data)
