"""A run's folder: `report.json`, the files of its cases, and what is known of its organ.

Files are looked for in the folder that `report.json` lies in, whatever paths it names, so that a run that was moved, or
whose paths were relative, can still be shown. Truth and images are optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from ..cases.find import case_name, list_images, list_masks, match_name
from ..cases.mesh import READ_MESHES
from ..organ.pack import OrganError, OrganPack, Structure
from ..organ.several import load_packs
from .run_report import read_report
from .words import provenance_lines

NSD_TOLERANCE_MM = 2.0


class RunError(ValueError):
    """A folder holds no run that can be shown; the message says what to do."""


@dataclass
class Run:
    """A run's folder, its report, and where truth and images may be found.

    Attributes:
        folder: holds `report.json`.
        report: its content.
        organ: the organ's name.
        structures: the pack's, or one a label where the pack is not at hand.
        nsd_tolerance_mm: of the scores against truth.
        provenance: [key, text] lines on the pack's data.
        truths: case-like name → true label map.
        images: case-like name → image.
    """

    folder: Path
    report: dict[str, Any]
    organ: str
    structures: list[Structure]
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM
    provenance: list[list[str]] = field(default_factory=list)
    truths: dict[str, Path] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        label_dir: str | Path | None = None,
        image_dir: str | Path | None = None,
        pack: OrganPack | None = None,
    ) -> Run:
        """Read a run's report and look for truth and images.

        Args:
            run_dir: output folder of a job, with `report.json`.
            label_dir: true label maps, named like the cases or their beginnings.
            image_dir: images, likewise; by default those that the report names.
            pack: the run's organ pack; None to read the one that the report names.

        Raises:
            RunError: there is no readable report.
            ValueError: a folder holds no volume.
        """
        folder = Path(run_dir)
        file = folder / "report.json"
        try:
            report = read_report(folder)
            cases, settings = list(report["cases"]), dict(report["settings"])
        except FileNotFoundError as error:
            raise RunError(f"{folder} holds no report.json: give the output folder of a job") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} is no report of a run ({error}): give the output folder of a job") from error
        organ = str(settings.get("organ", ""))
        run = cls(folder, report, organ, structures_of_labels(cases))
        try:
            pack = pack or load_packs(organ)
        except OrganError as error:
            run.provenance = [["note", f"the organ pack is not at hand: {error}"]]
        else:
            run.organ = pack.name
            run.structures = shapes_reported(pack.structures, cases)
            run.nsd_tolerance_mm = pack.nsd_tolerance_mm
            run.provenance = [line for one in pack.packs for line in _provenance(one, bool(pack.members))]
        run.truths = {case_name(p): p for p in list_masks(label_dir)} if label_dir else {}
        run.images = {case_name(p): p for p in list_images(image_dir)} if image_dir else {}
        return run

    @property
    def parts(self) -> dict[int, tuple[str, int]]:
        """Number from 1 → structure and one of its label values, by value; at most 255."""
        pairs = sorted((v, n) for n, structure in enumerate(self.structures) for v in structure.labels)[:255]
        return {number: (self.structures[n].name, value) for number, (value, n) in enumerate(pairs, 1)}

    def numbers(self, structure: str) -> list[int]:
        """Return the numbers of a structure's parts."""
        return [number for number, (name, _) in self.parts.items() if name == structure]

    def file(self, record: Mapping[str, Any], what: str) -> Path | None:
        """Return an output file of a case, looked for in the run's folder; None where there is none."""
        named = record.get("outputs", {}).get(what)
        if not named:
            return None
        found = self.folder / str(record["case"]) / PureWindowsPath(named).name  # takes both kinds of slashes
        return found if found.is_file() else None

    def mesh_file(self, record: Mapping[str, Any], structure: str) -> Path | None:
        """Return a structure's surface of a case, as STL or PLY, which every format has beside it; None without one."""
        files = (self.file(record, what) for what in (structure, f"{structure}_correspondence"))
        return next((file for file in files if file is not None and file.suffix in READ_MESHES), None)

    def image_file(self, record: Mapping[str, Any]) -> Path | None:
        """Return a case's image: of the folder given, or as the report names it; None where there is none."""
        found = match_name(str(record["case"]), self.images)
        if found is not None:
            return self.images[found]
        named = record.get("inputs", {}).get("image")
        return Path(named) if named and Path(named).is_file() else None


def _provenance(pack: OrganPack, beside: bool) -> list[list[str]]:
    """Return the lines on an organ pack's data; with its name where there are others."""
    return [*([["organ pack", pack.name]] if beside else []), *provenance_lines(pack.provenance)]


def shapes_reported(structures: Sequence[Structure], cases: Sequence[Mapping[str, Any]]) -> list[Structure]:
    """Return a pack's structures, and the left and right one of those that some case holds both sides of."""
    reported = {str(said["name"]) for case in cases for said in case.get("structures", [])}
    return [shape for one in structures for shape in (one, *(side for side in one.pair if side.name in reported))]


def shapes_of_case(structures: Sequence[Structure], record: Mapping[str, Any]) -> list[Structure]:
    """Return those of a run's shapes that a case's report names: of a paired structure, both sides or the whole.

    Where it names none, they are all but sides.
    """
    reported = {str(said["name"]) for said in record.get("structures", [])}
    sides = {side.name for one in structures for side in one.pair}
    return [one for one in structures if (one.name in reported if reported else one.name not in sides)]


def structures_of_labels(cases: Sequence[Mapping[str, Any]]) -> list[Structure]:
    """Return one structure a label value that a report's cases name; for a run whose organ pack is not at hand."""
    values = sorted({int(value) for case in cases for value in case.get("volumes_ml", {})})
    return [Structure(f"label_{value}", (value,), Path()) for value in values]
