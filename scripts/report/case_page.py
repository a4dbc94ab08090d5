"""What the page shows of a case, gathered from a run's folder: texts and figures, slices, surfaces."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh

from ..cases.errors import CaseError
from ..cases.find import match_name
from ..cases.mesh import read_mesh
from ..cases.read import read_labels
from ..geometry.affine import same_grid, spacing_mm, voxel_volume_mm3
from ..metrics.surface import SCORES, score_masks
from ..organ.pack import Structure, structure_masks
from .crops import Crop, shown_image
from .page_data import CasePage, SlicesPage, StructurePage
from .run_folder import Run, shapes_of_case
from .run_report import KEPT
from .surfaces import INITIAL, REFINED, TRUTH, display_surfaces, mask_surface, moved_figures, read_coloured
from .words import flags, predicted_figures, region_totals, sentences, topology_figures, volume_figures

logger = logging.getLogger(__name__)


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
    """Return what the report has of: the share of the initial surface near the fit, the pose's scale, steps that went,
    the agreement of the image's readers, and the uncertainty.
    """
    fit, alignment, spread = (quality.get(what) or {} for what in ("fit", "alignment", "uncertainty_mm"))
    found = {"fit_within_2mm_percent": fit.get("share_within_2mm"), "alignment_scale": alignment.get("scale")}
    found["steps_mm"] = max(quality.get("steps_mm") or [None])
    found["second_reader_dice"] = quality.get("second_reader_dice")
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
        if REFINED in meshes and REFINED in parts and np.array_equal(parts[INITIAL], parts[REFINED]):
            meshes[INITIAL] = meshes[REFINED]  # one mask, one surface: nothing has moved
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
