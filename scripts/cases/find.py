"""Which cases a run has: files found by name, before anything is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from .part import share_of

SUFFIXES = (".nii.gz", ".nii")
SEGMENTATION, NRRD = ".seg.nrrd", ".nrrd"  # the first is of 3D Slicer's masks
META_IMAGE = (".mha", ".mhd")  # ITK's; the voxels of the second lie in a file beside it
MGH = (".mgz", ".mgh")  # FreeSurfer's and FastSurfer's
VOLUMES = (*SUFFIXES, SEGMENTATION, NRRD, *META_IMAGE, *MGH)
READ = ".nii.gz, .nii, .nrrd, .seg.nrrd, .mha, .mhd, .mgz and .mgh"
NETWORK_OUTPUT = ".npz"  # of nnU-Net's --save_probabilities
MONAI_ENDINGS = ("_trans", "_seg")  # which MONAI's SaveImage puts at the end of a result's name
OTHER_FORMATS = (
    ".nhdr", ".hdr", ".img", ".img.gz", ".mnc", ".gipl", ".dcm", ".nii.xz",
)  # fmt: skip
FIRST_CHANNEL = "_0000"  # which nnU-Net puts at the end of an image's name
NAMED_AT_MOST = 5  # files in a message
IMAGE, PROB = "image", "prob"  # keys of a case's evidence
GRID = "grid"  # key of the file on whose grid the refined mask is written, too
CASE, REASON = "case", "reason"  # keys of a case's dictionary: its name, and why it cannot be run ("" if it can)
MASKS_FOLDER = "segmentations"  # of a case folder, in TotalSegmentator's training data and AbdomenAtlas
LABEL_MAPS = (  # in a case folder, of AbdomenAtlas and of FastSurfer; each has the same name in all of them
    "combined_labels.nii.gz", "aparc.DKTatlas+aseg.deep.mgz", "mri/aparc.DKTatlas+aseg.deep.mgz",
)  # fmt: skip

logger = logging.getLogger(__name__)


def case_name(path: str | Path) -> str:
    """Return a file's name without folder and ending, one of `VOLUMES`.

    Raises:
        ValueError: the name has another ending.
    """
    name = Path(path).name
    for suffix in VOLUMES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    raise ValueError(
        f"{path} is no volume that can be read ({READ}): convert it to .nii.gz, for example with 3D Slicer or SimpleITK"
    )


def is_nifti(path: str | Path) -> bool:
    """Whether a file's name is that of a NIfTI file."""
    return Path(path).name.lower().endswith(SUFFIXES)


def is_meta_image(path: str | Path) -> bool:
    """Whether a file's name is that of a MetaImage file."""
    return Path(path).name.lower().endswith(META_IMAGE)


def is_mgh(path: str | Path) -> bool:
    """Whether a file's name is that of FreeSurfer's format."""
    return Path(path).name.lower().endswith(MGH)


def is_nrrd(path: str | Path) -> bool:
    """Whether a file's name is that of a NRRD file."""
    return Path(path).name.lower().endswith(NRRD)


def list_masks(path: str | Path) -> list[Path]:
    """Return the label maps of a folder, not of its subfolders, sorted by name; or the one file that is given.

    Raises:
        ValueError: there is no such folder or file, or it holds no volume.
    """
    return _listed(Path(path), masks_of)


def list_images(path: str | Path) -> list[Path]:
    """Return the images of a folder, which are no segmentations of 3D Slicer's, or one file; see `list_masks`.

    Raises:
        ValueError: see `list_masks`.
    """
    return _listed(Path(path), lambda folder: [f for f in volumes_of(folder) if not _is_segmentation(f)])


def _listed(folder: Path, files_of: Callable[[Path], list[Path]]) -> list[Path]:
    if folder.is_file():
        case_name(folder)  # refuses what is no volume
        return [folder]
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; give a folder of volumes ({READ}), or one such file")
    files = files_of(folder)
    if not files:
        others = unread(folder)
        raise ValueError(
            f"{folder} holds no volume ({READ}; subfolders are not searched): "
            f"{others or 'give the folder that holds them'}"
        )
    return files


def masks_of(folder: Path) -> list[Path]:
    """Return the label maps of a folder, sorted by name; [] where there are none.

    A file of another format whose name is that of a NIfTI file or of a `.seg.nrrd`, or begins with it up to a '_',
    is that one's image.
    """
    volumes = volumes_of(folder)
    certain = {case_name(f) for f in volumes if is_nifti(f) or _is_segmentation(f)}
    return [f for f in volumes if is_nifti(f) or _is_segmentation(f) or match_name(case_name(f), certain) is None]


def _is_segmentation(file: Path) -> bool:
    return file.name.lower().endswith(SEGMENTATION)


def volumes_of(folder: Path) -> list[Path]:
    """Return the volumes of a folder that can be read, sorted by name; hidden ones are none."""
    return sorted(
        f for f in folder.iterdir() if f.name.lower().endswith(VOLUMES) and f.name[0] != "." and is_file_or_link(f)
    )


def inner_volumes(path: Path) -> list[Path]:
    """Return the volumes of a case's folder and of the folders in it, [] of a file."""
    if not path.is_dir():
        return []
    return [file for folder in (path, *sorted(path.iterdir())) if folder.is_dir() for file in volumes_of(folder)]


def labels_folder(dataset_dir: str | Path) -> Path:
    """Return the subfolder `labels` of a folder where it has one, else the folder."""
    folder = Path(dataset_dir)
    return folder / "labels" if (folder / "labels").is_dir() else folder


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


def unread(folder: Path) -> str:
    """Return which volumes of a folder are in formats that are not read, and the remedy; "" where there are none."""
    if not folder.is_dir():
        return ""
    names = sorted(f.name for f in folder.iterdir() if f.name.lower().endswith(OTHER_FORMATS) and f.name[0] != ".")
    if not names:
        return ""
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return (
        f"not read: {', '.join(names[:NAMED_AT_MOST])}{more}: convert them to .nii.gz, for example with 3D Slicer or "
        "SimpleITK"
    )


def list_probabilities(folder: str | Path) -> list[Path]:
    """Return the files of class probabilities of a folder: nnU-Net's `.npz` where it has such, else volumes.

    Raises:
        ValueError: see `list_masks`.
    """
    folder = Path(folder)
    if folder.is_file() and folder.name.lower().endswith(NETWORK_OUTPUT):
        return [folder]
    arrays = sorted(folder.glob(f"[!.]*{NETWORK_OUTPUT}")) if folder.is_dir() else []
    return arrays or list_images(folder)


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
    find: Callable[[str | Path], list[Path]] | None = None,
) -> list[dict[str, Any]]:
    """Find the cases of a run.

    Args:
        dataset_dir: folder of volumes, one a case, or one such file; or what `find` takes.
        key: the dictionary key under which a case's file goes ("pred" for masks, "image" for images).
        evidence_dirs: further key → folder with files of the same names (`match_name`), or with nnU-Net's ending
            `_0000`, or one such file for a single file; None for a key not given. Those of `PROB` may be nnU-Net's
            (`list_probabilities`). One file of `GRID` goes with all cases.
        find: `dataset_dir` → its cases, files or folders; None for `list_images` or `list_masks`, as the key is.

    Returns:
        One dictionary of paths a case, sorted by name: `case`, `reason`, the key, and every evidence key found.
        `reason` is "" but for files whose names give the same case, and of which none can be chosen.

    Raises:
        ValueError: a folder is missing or holds no volume.
    """
    cases: dict[str, dict[str, Any]] = {}
    places = [Path(dataset_dir)]
    for path in (find or (list_images if key == IMAGE else list_masks))(dataset_dir):
        name = path.name if path.is_dir() else case_name(path)
        if name in cases:
            cases[name][REASON] = f"{cases[name][key]} and {path} are both case '{name}': rename or remove one"
        else:
            cases[name] = {CASE: name, REASON: "", key: str(path)}
    for evidence, folder in (evidence_dirs or {}).items():
        if folder:
            listed = list_probabilities(folder) if evidence == PROB else list_images(folder)
            places.append(Path(folder))
            taken = {case[key] for case in cases.values()} if evidence == IMAGE else set()
            listed = [path for path in listed if str(path) not in taken]  # a mask is not its own image
            files = {path.stem if path.suffix == NETWORK_OUTPUT else case_name(path): path for path in listed}
            alone = len(cases) == len(files) == 1 and Path(dataset_dir).is_file()
            if Path(folder).is_file() and (alone or evidence == GRID):  # two single files are meant for each other
                files = dict.fromkeys(cases, *files.values())
            for name, case in cases.items():
                fits = match_name(name, files) or (name + FIRST_CHANNEL if name + FIRST_CHANNEL in files else None)
                if fits is not None:
                    case[evidence] = str(files[fits])
    for place in dict.fromkeys(places):
        others = unread(place)
        if others:
            logger.warning("%s: %s", place, others)
    return list(cases.values())


class CaseDataset(Dataset):
    """The cases of a run as dictionaries of paths; nothing is read, so that one bad file stops no other case.

    A folder that cannot be used does not raise here but stands in `problem`: hosts build the dataset too, and have
    none. Arguments are those of `find_cases`, with `image_dir`, `prob_dir` and `grid` for its evidence, and the `part`
    of the cases, see `share_of`.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        key: str = "pred",
        image_dir: str | Path | None = None,
        prob_dir: str | Path | None = None,
        find: Callable[[str | Path], list[Path]] | None = None,
        part: str = "",
        grid: str | Path | None = None,
    ) -> None:
        self.key = key
        folders = {IMAGE: image_dir, PROB: prob_dir, GRID: grid}
        self.evidence = [name for name, folder in folders.items() if folder]
        self.problem = ""
        self.data: list[dict[str, Any]] = []
        named = {name: folder and str(folder) for name, folder in folders.items()}
        try:
            found = find_cases(str(dataset_dir), key, named, find)  # a folder 2024 comes as a number
            self.data = share_of(found, part)
        except (OSError, ValueError) as error:
            self.problem = str(error)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.data[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(case) for case in self.data)


def label_map_in(folder: Path) -> Path | None:
    """Return the label map of a case's folder, one of `LABEL_MAPS`; None if it has none."""
    return next((folder / name for name in LABEL_MAPS if (folder / name).is_file()), None)


def is_output(path: Path) -> bool:
    """Whether a file is a run's `<case>/<case>_initial` or `_refined`, whose values are the pack's."""
    if path.is_dir():
        return False
    return path.parent.name != "" and case_name(path) in {f"{path.parent.name}_{s}" for s in ("initial", "refined")}
