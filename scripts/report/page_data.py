"""What the page of a run shows, gathered from the run's folder: `report.json` and the files of its cases.

Files are looked for in the folder that `report.json` lies in, whatever paths it names, so that a run that was moved, or
whose paths were relative, can still be shown. Truth and images are optional.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import trimesh

from ..cases.errors import CaseError
from ..cases.find import case_name, list_images, list_masks, match_name
from ..cases.mesh import READ_MESHES, read_mesh
from ..cases.read import read_labels
from ..geometry.affine import same_grid, spacing_mm, voxel_volume_mm3
from ..metrics.surface import SCORES, score_masks
from ..organ.pack import OrganError, OrganPack, Structure, structure_masks
from ..organ.several import load_packs
from .crops import Crop, shown_image
from .run_report import KEPT, read_report
from .surfaces import (
    INITIAL,
    REFINED,
    TRUTH,
    Surface,
    display_surfaces,
    mask_surface,
    moved_figures,
    read_coloured,
)
from .words import (
    flags,
    predicted_figures,
    provenance_lines,
    region_totals,
    sentences,
    topology_figures,
    volume_figures,
)

NSD_TOLERANCE_MM = 2.0


logger = logging.getLogger(__name__)


class RunError(ValueError):
    """A folder holds no run that can be shown; the message says what to do."""


@dataclass
class StructurePage:
    """One structure of one case.

    Attributes:
        name: of the structure.
        failure: why it could not be refined, or "".
        status: "refined", "unchanged" or "kept"; "" where the report does not say.
        doubtful: whether the fit cannot be right.
        outside_prior: why the shape is none that the prior knows, or "".
        words: sentences on what happened to it.
        figures: name with unit → number.
        regions: what the gate judged, as in the report.
        seconds: stage → seconds.
        surfaces: at most one a stage.
    """

    name: str
    failure: str = ""
    status: str = ""
    doubtful: bool = False
    outside_prior: str = ""
    words: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    regions: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    surfaces: list[Surface] = field(default_factory=list)


@dataclass
class SlicesPage:
    """A case's volumes, cropped and turned (see `Crop`).

    Attributes:
        affine: (4, 4) voxel index → world mm.
        spacing_mm: (3,).
        labels: stage → (X, Y, Z) uint8: 0 or a number of the run's `parts`, which count from 1.
        image: (x, y, z) uint8 grey values, or None.
        image_step: voxels of the labels an image voxel covers along each axis.
    """

    affine: np.ndarray
    spacing_mm: np.ndarray
    labels: dict[str, np.ndarray]
    image: np.ndarray | None = None
    image_step: list[int] = field(default_factory=lambda: [1, 1, 1])


@dataclass
class CasePage:
    """One case: what the report says of it, and what its files hold.

    Attributes:
        record: the case's part of `report.json`.
        structures: one each, also where nothing can be drawn.
        slices: None where nothing can be drawn.
        notes: what could not be shown, and why.
        flags: [kind, text] quality flags.
        totals: number and volume of accepted and refused regions.
        thumbnail: address of a small picture, "" for none.
    """

    record: dict[str, Any]
    structures: list[StructurePage] = field(default_factory=list)
    slices: SlicesPage | None = None
    notes: list[str] = field(default_factory=list)
    flags: list[list[str]] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)
    thumbnail: str = ""

    @property
    def name(self) -> str:
        """The case's name."""
        return str(self.record["case"])

    def not_drawn(self, reason: str) -> None:
        """Show the case by its figures only, with the reason."""
        self.notes.append(reason)
        self.slices = None
        for structure in self.structures:
            structure.surfaces = []


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


def load_case(
    run: Run,
    record: dict[str, Any],
    full_size: dict[str, dict[str, trimesh.Trimesh]] | None = None,
    surfaces: bool = True,
) -> CasePage:
    """Gather what the page shows of a case; what cannot be read is left out and noted.

    Args:
        run: the run.
        record: the case's part of its report.
        full_size: where given, receives structure → stage → surface before it is thinned out.
        surfaces: false: no surfaces, which take most of the time, nor how far they moved.
    """
    page = CasePage(record, totals=region_totals(record.get("structures", [])))
    if record.get("status") == KEPT and not record.get("structures"):  # its labels may be another organ's
        page.not_drawn("The mask is not drawn, since it was not looked at as this organ's.")
        page.flags = flags(KEPT, list(record.get("warnings", [])), [])
        return page
    reported = {str(s["name"]): s for s in record.get("structures", [])}
    for structure in shapes_of_case(run.structures, record):
        said = reported.get(structure.name, {})
        page.structures.append(
            StructurePage(
                structure.name,
                str(said.get("failure", "")),
                _status_of(said),
                bool(said.get("quality", {}).get("doubtful")),
                str(said.get("quality", {}).get("outside_prior_reason") or ""),
                figures=_fit_figures(said.get("quality", {})) | predicted_figures(said.get("quality", {})),
                regions=[r for r in said.get("quality", {}).get("regions", []) if "kind" in r],
                seconds=said.get("seconds", {}),
            )
        )
    try:
        _draw(run, page, full_size, surfaces)
    except Exception as error:  # whatever it is, the other cases are to be shown
        if not isinstance(error, (CaseError, ValueError)):
            logger.warning("%s cannot be drawn: %s: %s", page.name, type(error).__name__, error)
        page.not_drawn(str(error) or type(error).__name__)
    described = [
        {
            "name": s.name,
            "failure": s.failure,
            "doubtful": s.doubtful,
            "outside_prior": s.outside_prior,
            "figures": s.figures,
        }
        for s in page.structures
    ]
    page.flags = flags(str(record.get("status", "")), list(record.get("warnings", [])), described)
    return page


def _draw(run: Run, page: CasePage, full_size: dict[str, dict[str, trimesh.Trimesh]] | None, surfaces: bool) -> None:
    """Fill in slices and surfaces of a case, and the figures that are taken from them; see `load_case`."""
    crop, maps = _read_masks(run, page)
    page.slices = _slices(run, page, crop, maps)
    shapes = {shape.name: shape for shape in shapes_of_case(run.structures, page.record)}
    for shown in page.structures:
        parts = {stage: own.of(shapes[shown.name]) for stage, own in maps.items()}
        meshes = _show_structure(run, page, crop, parts, shown, surfaces)
        if full_size is not None:
            full_size[shown.name] = meshes


def _status_of(said: Mapping[str, Any]) -> str:
    """Return a structure's status in a report; older reports say only whether it failed."""
    return str(said.get("status") or (KEPT if said.get("failure") else REFINED if said else ""))


def _fit_figures(quality: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of the initial surface near the fit, the pose's scale, and the uncertainty, if it has them."""
    fit, alignment, spread = (quality.get(what) or {} for what in ("fit", "alignment", "uncertainty_mm"))
    found = {"fit_within_2mm_percent": fit.get("share_within_2mm"), "alignment_scale": alignment.get("scale")}
    found |= {f"uncertainty_{what}_mm": spread.get(what) for what in ("median", "p90")}
    figures = {key: float(value) for key, value in found.items() if value is not None}
    if "fit_within_2mm_percent" in figures:
        figures["fit_within_2mm_percent"] *= 100
    return figures


@dataclass(frozen=True)
class CroppedMap:
    """A label map in the crop that is shown.

    Attributes:
        values: (X, Y, Z) of the crop.
        sided: structure of one side → its voxels, (X, Y, Z) bool: these are known from the whole volume only.
    """

    values: np.ndarray
    sided: dict[str, np.ndarray]

    @classmethod
    def cut(cls, values: np.ndarray, affine: np.ndarray, crop: Crop, shapes: Sequence[Structure]) -> CroppedMap:
        """Cut a whole label map (X, Y, Z) with its affine (4, 4), voxel → world mm."""
        masks = structure_masks([shape for shape in shapes if shape.side], values, affine)
        return cls(crop.of(values), {name: crop.of(mask) for name, mask in masks.items()})

    def of(self, shape: Structure) -> np.ndarray:
        """Return a structure's voxels, (X, Y, Z) bool: one at a time, for memory."""
        return self.sided[shape.name] if shape.side else shape.union(self.values)


def _read_masks(run: Run, page: CasePage) -> tuple[Crop, dict[str, CroppedMap]]:
    """Return the crop around a case's masks and, in it, stage → label map."""
    files = {stage: run.file(page.record, stage) for stage in (INITIAL, REFINED)}
    found = match_name(page.name, run.truths)
    files[TRUTH] = None if found is None else run.truths[found]
    if run.truths and found is None:
        page.notes.append("No true label map fits this case's name.")
    maps: dict[str, np.ndarray] = {}
    affine = np.eye(4)
    for stage, file in files.items():
        if file is None:
            continue
        values, its_affine = read_labels(file)
        if maps and (not same_grid(values.shape, its_affine, next(iter(maps.values())).shape, affine)):
            page.notes.append(f"{file} is on another grid than the case's masks and is not shown.")
            continue
        maps[stage], affine = values, (affine if maps else its_affine)
    if INITIAL not in maps:
        raise ValueError(f"No mask of this case lies in {run.folder / page.name}.")
    crop = Crop.around(maps, affine)
    shapes = shapes_of_case(run.structures, page.record)
    return crop, {stage: CroppedMap.cut(values, affine, crop, shapes) for stage, values in maps.items()}


def _slices(run: Run, page: CasePage, crop: Crop, maps: Mapping[str, CroppedMap]) -> SlicesPage:
    spacing = spacing_mm(crop.affine)
    labels = {}
    shapes = {shape.name: shape for shape in shapes_of_case(run.structures, page.record)}
    for stage, cropped in maps.items():
        labels[stage] = np.zeros(crop.shape, np.uint8)
        for number, (name, value) in run.parts.items():
            if name in shapes:
                labels[stage][cropped.of(shapes[name]) & (cropped.values == value)] = number
    slices = SlicesPage(crop.affine, spacing, labels)
    file = run.image_file(page.record)
    if file is None:
        return slices
    try:
        image = crop.image(file)
    except CaseError as error:
        page.notes.append(f"Image not shown: {error}")
        return slices
    if image is None:
        page.notes.append(f"{file} does not overlap the masks and is not shown.")
    else:
        slices.image, slices.image_step = shown_image(image, spacing)
    return slices


def _show_structure(
    run: Run,
    page: CasePage,
    crop: Crop,
    parts: Mapping[str, np.ndarray],
    shown: StructurePage,
    surfaces: bool,
) -> dict[str, trimesh.Trimesh]:
    """Fill in a structure's figures, words and surfaces from stage → mask; return stage → surface in full."""
    mesh_file = run.mesh_file(page.record, shown.name)
    meshes: dict[str, trimesh.Trimesh | None] = {}
    if surfaces and mesh_file is not None:
        meshes[REFINED] = read_mesh(mesh_file, join=True)
    if surfaces:
        meshes |= {stage: mask_surface(mask, crop.affine) for stage, mask in parts.items() if stage not in meshes}
    if REFINED in parts:
        shown.figures |= volume_figures(parts[INITIAL], parts[REFINED], voxel_volume_mm3(crop.affine))
        shown.figures |= topology_figures(parts[INITIAL], parts[REFINED])
        shown.figures |= moved_figures(meshes.get(INITIAL), meshes.get(REFINED))
        shown.words = sentences(shown.figures, shown.failure)
        if shown.outside_prior:
            shown.words.insert(0, f"A shape that the prior does not know: {shown.outside_prior}.")
    for stage in (INITIAL, REFINED):
        if TRUTH in parts and stage in parts:
            scores = score_masks(parts[stage], parts[TRUTH], crop.affine, run.nsd_tolerance_mm)
            shown.figures |= {f"{key}_{stage}": float(scores[key]) for key in SCORES}
    if surfaces:
        coloured = read_coloured(run.folder / page.name / f"{page.name}_{shown.name}.ply")
        shown.surfaces = display_surfaces(meshes, coloured)
    return {stage: mesh for stage, mesh in meshes.items() if mesh is not None}
