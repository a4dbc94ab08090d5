"""Which prediction belongs to which truth: files found by name, grids compared before anything is scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cases.errors import CaseError
from ..cases.find import case_name, is_nifti, is_nrrd, is_output, list_masks, masks_of, match_name
from ..cases.nifti_grid import affine_mm
from ..cases.read import open_volume
from ..cases.sources import LabelSource
from ..geometry.affine import grids_apart_mm, same_grid
from ..report.run_report import FAILED, KEPT, read_report

STAGE_MARK = "::"
OTHER_GRID = "resample the prediction, or give --resample_labels true to bring labels to the predictions' grid"


@dataclass(frozen=True)
class ScoredCase:
    """One case to score.

    Attributes:
        case: the predictions' common name, such as `scan_09_seed1`.
        patient: the label's name, such as `scan_09`; several cases may be one patient's.
        label: the true label map.
        predictions: method → label map; None where there is none, which counts as an empty mask.
    """

    case: str
    patient: str
    label: Path
    predictions: dict[str, Path | None]


@dataclass
class Pairing:
    """What there is to score, and what could not be paired.

    Attributes:
        cases: sorted by name; each has a prediction of every method.
        without_label: predictions that no label belongs to.
        without_prediction: labels that no prediction belongs to, of those asked for.
        counted_missing: case → the methods that lack it, where these are scored as empty masks.
        incomplete: case → the methods that lack it; these cases are not scored.
        failed: case → the methods whose run failed on it; these cases are not scored either.
        kept: case → the methods whose run passed its initial mask through; these are scored like the others.
        unusable: case → why a file of it cannot be scored; these cases are not scored either.
    """

    cases: list[ScoredCase] = field(default_factory=list)
    without_label: list[str] = field(default_factory=list)
    without_prediction: list[str] = field(default_factory=list)
    counted_missing: dict[str, list[str]] = field(default_factory=dict)
    incomplete: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    kept: dict[str, list[str]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Leave cases out, each for a reason.

        Raises:
            ValueError: none is left; with the first reason.
        """
        self.unusable |= reasons
        self.cases = [case for case in self.cases if case.case not in reasons]
        if not self.cases:
            raise ValueError(next(iter(reasons.values())))


def find_predictions(folder: str | Path, method: str, labels: LabelSource | None = None) -> dict[str, Path]:
    """Find the label maps of a method.

    Args:
        folder: a flat folder of label maps, or the output folder of a run with `<case>/<case>_<stage>.nii.gz`.
            `folder::stage` names the stage; without it a flat folder's files are taken whole, and a run's stage is
            "initial" for the method of that name and "refined" for any other. Of a run whose report is there, only what
            the report lists is found: other files are an earlier run's, or of cases that failed.
        method: the method's name.
        labels: where given, also folders of binary masks and MONAI's layout are found, see `LabelSource.find`.

    Returns:
        Case → file, or folder of masks, sorted.

    Raises:
        ValueError: there is no such folder, it holds no such file, or two files of one case.
    """
    path, _, stage = str(folder).partition(STAGE_MARK)
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"{method}: the folder {root} does not exist")
    flat = masks_of(root)
    inner = [] if labels is None or stage else [f for f in _found(labels, root) if f.is_dir() or f.parent != root]
    inner = [f for f in inner if not is_output(f)]
    if inner:
        files = [(f.name if f.is_dir() else case_name(f), f) for f in inner]
    elif flat and not stage:
        files = [(case_name(f), f) for f in flat]
    else:
        stage = stage or ("initial" if method == "initial" else "refined")
        ending = f"_{stage}"
        nested = [f for f in root.glob("[!.]*/[!.]*") if is_nifti(f) and case_name(f) == f.parent.name + ending]
        states = states_of_run(root)
        if states is not None:
            nested = [f for f in nested if states.get(f.parent.name, FAILED) != FAILED]
        files = [(case_name(f)[: -len(ending)], f) for f in [*flat, *nested] if case_name(f).endswith(ending)]
    found: dict[str, Path] = {}
    for case, file in sorted(files):
        if case in found:
            raise ValueError(f"{method}: {found[case]} and {file} are both case '{case}'; remove one")
        found[case] = file
    if not found:
        wanted = f"<case>_{stage}.nii.gz, flat or as <case>/<case>_{stage}.nii.gz" if stage else "label maps"
        raise ValueError(f"{method}: {root} holds no {wanted}")
    return found


def states_of_run(folder: Path) -> dict[str, str] | None:
    """Return case → status of a run's output folder, by its report; None where there is no report of a run."""
    try:
        return {str(case["case"]): str(case["status"]) for case in read_report(folder)["cases"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def pair_methods(
    label_dir: str | Path,
    methods: Mapping[str, str | Path],
    patients: Sequence[str] | None = None,
    allow_missing: bool = False,
    predicted: LabelSource | None = None,
    true: LabelSource | None = None,
    resample_labels: bool = False,
    missing_as_failures: bool = False,
) -> Pairing:
    """Pair every method's predictions with the labels and with each other.

    A prediction belongs to the label whose name it has, or begins with up to a '_' (`scan_09_seed1` to `scan_09`).

    Args:
        label_dir: folder of true label maps.
        methods: method → folder (see `find_predictions`).
        patients: names of the labels to score; None for all that have predictions.
        allow_missing: leave cases out that some method lacks, and list them, instead of raising.
        predicted: how the predictions' labels are read; None for the pack's own values.
        true: how the labels are read, likewise.
        resample_labels: labels may lie on other grids; a case's predictions must still share one.
        missing_as_failures: a prediction that is missing, or whose run failed, counts as an empty mask.

    A case with a file that cannot be opened, or that is not on its label's grid (with `resample_labels`, on that of the
    first method's), is left out and named.

    Raises:
        ValueError: no prediction fits a label, a method lacks a case, or no case can be used.
    """
    files = list_masks(label_dir) if true is None else true.find(label_dir)
    labels = {f.name if f.is_dir() else case_name(f): f for f in files}
    if patients is not None:
        unknown = sorted(set(patients) - set(labels))
        if unknown:
            raise ValueError(f"{label_dir} lacks the labels {some_of(unknown)}")
    found = {method: find_predictions(folder, method, predicted) for method, folder in methods.items()}
    roots = {method: Path(str(folder).partition(STAGE_MARK)[0]) for method, folder in methods.items()}
    states = {method: states_of_run(root) or {} for method, root in roots.items()}
    failures = {case for run in states.values() for case, state in run.items() if state == FAILED}
    pairing = Pairing()
    seen: set[str] = set()
    for case in sorted(failures.union(*found.values())):
        patient = match_name(case, labels)
        if patient is None:
            pairing.without_label.append(case)
            continue
        if patients is not None and patient not in patients:
            continue
        seen.add(patient)
        lacking = [method for method, files in found.items() if case not in files]
        failed = [method for method in lacking if states[method].get(case) == FAILED]
        if lacking and missing_as_failures:
            pairing.counted_missing[case] = lacking
            failed = lacking = []
        kept = [method for method in found if states[method].get(case) == KEPT and case in found[method]]
        if failed:
            pairing.failed[case] = failed
        elif lacking:
            pairing.incomplete[case] = lacking
        else:
            predictions = {method: files.get(case) for method, files in found.items()}
            pairing.cases.append(ScoredCase(case, patient, labels[patient], predictions))
            if kept:
                pairing.kept[case] = kept
    pairing.without_prediction = sorted(set(labels if patients is None else patients) - seen)
    if missing_as_failures and pairing.cases:
        nothing: dict[str, Path | None] = dict.fromkeys(methods)
        pairing.cases += [ScoredCase(name, name, labels[name], dict(nothing)) for name in pairing.without_prediction]
        pairing.counted_missing |= {name: list(methods) for name in pairing.without_prediction}
        pairing.without_prediction = []
    if pairing.incomplete and not allow_missing:
        lines = "; ".join(f"{case}: {', '.join(lacking)}" for case, lacking in list(pairing.incomplete.items())[:8])
        raise ValueError(
            f"{len(pairing.incomplete)} cases are missing in some method ({lines}); "
            "make them, or set allow_missing to leave these cases out of all methods"
        )
    if not pairing.cases:
        raise ValueError(
            f"no prediction belongs to a label of {label_dir}: labels are named {some_of(labels)}, "
            f"predictions {some_of(set().union(*found.values()))}"
        )
    unusable = {}
    for scored in pairing.cases:
        there = [file for file in scored.predictions.values() if file is not None]
        files = [file if predicted is None else predicted.files(file)[0] for file in there]
        label = scored.label if true is None else true.files(scored.label)[0]
        try:
            for file in files:
                check_same_grid(file, files[0] if resample_labels else label)
        except (CaseError, ValueError) as error:
            unusable[scored.case] = str(error)
    if unusable:
        pairing.leave_out(unusable)
    return pairing


def check_same_grid(prediction: Path, label: Path) -> None:
    """Check from the headers that a prediction and its label, or another method's prediction, are on one voxel grid.

    Raises:
        ValueError: the shapes differ, or a corner of the grid lies elsewhere in the world; both files are named.
    """
    a, b = open_volume(prediction), open_volume(label)
    shape = tuple(b.shape[:3])
    if tuple(a.shape[:3]) != shape or any(n != 1 for n in (*_further(a, prediction), *_further(b, label))):
        raise ValueError(f"{prediction} has the shape {a.shape} but {label} {b.shape}; {OTHER_GRID}")
    places = affine_mm(a), affine_mm(b)
    if not same_grid(shape, places[0], shape, places[1]):
        raise ValueError(
            f"{prediction} and {label} have the same shape but lie up to "
            f"{grids_apart_mm(shape, *places):.3g} mm apart in the world; repair the wrong header, or "
            f"{OTHER_GRID}"
        )


def _further(image: Any, path: Path) -> tuple[int, ...]:
    """Return the lengths of the axes beside space; layers of 3D Slicer's segments are none."""
    return () if is_nrrd(path) else tuple(image.shape[3:])


def _found(labels: LabelSource, folder: Path) -> list[Path]:
    """Return the cases of a folder, [] where there are none."""
    try:
        return labels.find(folder)
    except ValueError:
        return []


def some_of(names: Iterable[str], at_most: int = 5) -> str:
    """Return names in order as text, and how many more there are."""
    listed = sorted(names)
    return ", ".join(listed[:at_most]) + (f" and {len(listed) - at_most} more" if len(listed) > at_most else "")
