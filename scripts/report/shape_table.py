"""The command `shape_table`: the shapes of a run as tables, point by point on the template of their prior."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..cases.digest import hash_of
from ..cases.files import write_csv
from ..cases.mesh import read_mesh, vertex_numbers
from ..organ.several import load_packs
from ..prior.prior import ShapePrior
from .run_folder import Run, shapes_reported
from .shape_files import write_study
from .shape_groups import Grouping, Groups, is_file_of_groups, read_groups, two_groups
from .shape_study import LEAST_SHAPES, Placed, Shape, Study, Template

TABLE = "shape_table.csv"
FOLDER = "shape_table"
PLACE = tuple(f"template_{axis}" for axis in "xyz")
NO_MESH = "the run wrote no coloured mesh of it"
DOUBTFUL = "its fit cannot be right"
CHANGED = "its prior has changed since the run"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A shape of a run.

    Attributes:
        told: its first columns of the table: case, structure, prior, mirrored, group and left_out, the reason why it is
            not compared; "" where it is.
        codes: of its fit, whitened; () where the run did not note them.
        shape: None where it is left out.
        prior: path of its prior.
        placed: the shape on the prior's template; None where it is left out, and before it was sought.
    """

    told: dict[str, Any]
    codes: Sequence[float]
    shape: Shape | None
    prior: Path
    placed: Placed | None = None


def shape_table(run_dir: str, output_dir: str = "", groups: str = "", remove_size: bool = False) -> str:
    """Write the shapes of a run as tables, at the same anatomical points in all cases.

    Structures that share a prior, such as the left and the right one, share its template, and are compared with each
    other. Files: shape_table.csv has a row a shape: volume, area, mean thickness, scores of principal components, and
    the codes of the fit. <prior>_distance_mm.csv and <prior>_thickness_mm.csv have a column a point, <prior>.npz has
    all as arrays. <prior>_mean.ply and .vtp are the mean shape, with what is known of each point; <prior>.png shows it.

    Args:
        run_dir: output folder of the job `inference` or `refine`.
        output_dir: where the files go; by default the folder shape_table of the run.
        groups: CSV with the columns case and group, of which there are two to compare; a column structure may tell the
            structures of a case apart. Or the word "structure": the two structures that share a prior are compared.
        remove_size: whether shapes are scaled to one size before they are compared.

    Returns:
        A Markdown table of means, of each group where there are two.

    Raises:
        ValueError: the folder holds no run, fewer than two shapes, or the groups are none.
        OrganError: the run's organ pack is not at hand.
        FileNotFoundError: a prior is not there.
    """
    run = Run.open(run_dir)
    structures = shapes_reported(load_packs(run.report["settings"]["organ"]).structures, run.report["cases"])
    order = [shape.name for shape in structures]
    cases = [str(record["case"]) for record in run.report["cases"]]
    told: Grouping | None = None
    if groups and is_file_of_groups(groups):
        told = read_groups(groups, cases, order)
    elif groups:
        told = Grouping(tuple(order), {(case, name): name for case in cases for name in order})
    priors = {shape.name: shape.prior for shape in structures}
    rows = read_rows(run, priors, told)
    folder = Path(output_dir) if output_dir else run.folder / FOLDER
    table: list[dict[str, Any]] = []
    lines: list[str] = []
    for name, file in names_of(row.prior for row in rows).items():
        own = [replace(row, told={**row.told, "prior": name}) for row in rows if row.prior == file]
        enough = sum(row.shape is not None for row in own) >= LEAST_SHAPES
        template = Template.of(ShapePrior.load(file)) if enough else None
        own = [placed(row, template) for row in own] if template is not None else own
        used = [(row, row.placed) for row in own if row.placed is not None]
        if template is None or len(used) < LEAST_SHAPES:
            logger.warning(f"{name}: of {len(own)} shapes fewer than {LEAST_SHAPES} can be compared: none is")
            table += [row.told for row in own]
            continue
        table += [row.told for row in own if row.placed is None]
        study = Study.of(template, [shape for _, shape in used], remove_size)
        pair = None
        if told is not None:
            pair = two_groups([row.told["case"] for row, _ in used], [row.told["group"] for row, _ in used], told.names)
            if pair is None:
                logger.warning(f"{name}: there are no two groups of at least two shapes: not compared")
        table += [measured(row, shape, study, number) for number, (row, shape) in enumerate(used)]
        write_study(folder, name, study, [row.told for row, _ in used], [row.codes for row, _ in used], pair)
        lines += [*([""] if lines else []), *summary(name, study, table[-len(used) :], pair)]
    if not lines:
        raise ValueError(f"{run_dir} holds no two shapes with a mesh in colours: give the output folder of refine")
    table += [untold(record) for record in run.report["cases"] if not record.get("structures")]
    write_csv(folder / TABLE, table)
    return "\n".join([*lines, "", f"files: {folder}"])


def names_of(priors: Iterable[Path]) -> dict[str, Path]:
    """Return name → path of different priors: the file's, with its pack's before it where two are called so."""
    files = list(dict.fromkeys(priors))
    stems = [file.stem for file in files]
    return {file.stem if stems.count(file.stem) == 1 else f"{file.parent.name}_{file.stem}": file for file in files}


def read_rows(run: Run, priors: Mapping[str, Path], groups: Grouping | None) -> list[Row]:
    """Return the shapes of a run; `priors` is structure → path of its prior."""
    changed = changed_priors(run, priors)
    rows = []
    for record in tqdm(run.report["cases"], unit="case", disable=None):
        for said in record.get("structures", []):
            name, quality, case = str(said["name"]), said.get("quality", {}), str(record["case"])
            if name not in priors:
                continue
            mirrored = bool(quality.get("alignment", {}).get("mirrored", False))
            shape = None
            why = said.get("failure") or (DOUBTFUL if quality.get("doubtful") else CHANGED if name in changed else "")
            if not why:
                try:
                    shape = read_shape(run, record, name, mirrored)
                    why = "" if shape else NO_MESH
                except Exception as error:  # whatever it is, the other shapes are to be compared
                    why = f"its mesh cannot be read: {error or type(error).__name__}"
                    logger.warning(f"{case}, {name}: left out: {why}")
            told = {"case": case, "structure": name, "prior": priors[name].stem, "mirrored": mirrored}
            told |= {} if groups is None else {"group": groups.group_of(case, name)}
            codes = quality.get("fit", {}).get("codes", ())
            rows.append(Row({**told, "left_out": why}, codes, shape, priors[name]))
    return rows


def untold(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of the table of a case of which the report says nothing but why: it failed, or was kept."""
    return {"case": str(record["case"]), "left_out": str(record.get("reason") or record.get("status"))}


def changed_priors(run: Run, priors: Mapping[str, Path]) -> set[str]:
    """Return the structures whose prior is another than when the run was made, as its report says; they are logged."""
    told = run.report.get("priors", {})
    found = {
        name for name, file in priors.items() if file.is_file() and told.get(name, "") not in ("", hash_of([], [file]))
    }
    if found:
        logger.warning(
            f"left out, for their priors have changed since the run: {', '.join(sorted(found))}; refine again"
        )
    return found


def placed(row: Row, template: Template) -> Row:
    """Return a shape with its place on its prior's template; left out where it has none, which is logged."""
    try:
        found = None if row.shape is None else Placed.on(template, row.shape)
    except ValueError as error:
        logger.warning(f"{row.told['case']}, {row.told['structure']}: left out: {error}")
        return replace(row, told={**row.told, "left_out": str(error)}, shape=None)
    return replace(row, placed=found)


def read_shape(run: Run, record: Mapping[str, Any], structure: str, mirrored: bool) -> Shape | None:
    """Return a structure's coloured mesh; None where the run wrote none."""
    file = run.file(record, f"{structure}_correspondence")
    if file is None:
        return None
    mesh = read_mesh(file)
    places = [found for name in PLACE if (found := vertex_numbers(mesh, name)) is not None]
    return Shape(mesh, np.stack(places, axis=1).astype(float), mirrored) if len(places) == len(PLACE) else None


def measured(row: Row, placed: Placed, study: Study, number: int) -> dict[str, Any]:
    """Return the line of the table of a shape that is the `number`-th of a study."""
    mesh, thickness = placed.shape.mesh, study.thickness_mm[number]
    known = study.known[number] & ~np.isnan(thickness)
    weights = study.template.weights
    return {
        **row.told,
        "volume_ml": float(mesh.volume) / 1000.0,
        "area_mm2": float(mesh.area),
        "thickness_mm": float(np.average(thickness[known], weights=weights[known])) if known.any() else float("nan"),
        "thickness_known_percent": 100.0 * float(weights[known].sum()),
        "distance_rms_mm": float(np.sqrt(np.nanmean(study.distance_mm[number] ** 2))),
        "points_known_percent": 100.0 * float(weights[study.known[number]].sum()),
        **{f"mode{k}": float(score) for k, score in enumerate(study.scores[number], 1)},
        **{f"code{k}": float(code) for k, code in enumerate(row.codes, 1)},
    }


def summary(name: str, study: Study, rows: Sequence[Mapping[str, Any]], groups: Groups | None) -> list[str]:
    """Return the lines of a Markdown table of a prior's shapes: means and standard deviations."""
    measures = {"volume, ml": "volume_ml", "area, mm²": "area_mm2", "mean thickness, mm": "thickness_mm"}
    values = {what: np.array([row[column] for row in rows], float) for what, column in measures.items()}
    if groups is None:
        lines = [f"| {name}, {len(rows)} shapes | mean ± sd |", "|---|---|"]
        return lines + [f"| {what} | {_spread(own)} |" for what, own in values.items()]
    test = "paired t" if groups.paired else "Welch's t"
    heads = [f"{one}, n = {len(part)}" for one, part in zip(groups.names, groups.rows, strict=True)]
    lines = [f"| {name} | {' | '.join(heads)} | {test} | p |", "|---|---|---|---|---|"]
    for what, own in values.items():
        found = groups.compare(own[:, None])
        cells = [_spread(own[part]) for part in groups.rows]
        lines.append(f"| {what} | {' | '.join(cells)} | {found.t[0]:.2f} | {found.p[0]:.2g} |")
    found = groups.compare(study.distance_mm)
    marked = np.nan_to_num(found.q, nan=1.0) < 0.05
    share = 100.0 * float(study.template.weights[marked].sum())
    largest = float(np.abs(found.difference[marked]).max()) if marked.any() else 0.0
    return [*lines, "", f"{name}: {share:.0f} % of the surface differs (q < 0.05), by {largest:.2f} mm at most."]


def _spread(values: np.ndarray) -> str:
    """Return mean and standard deviation, with the two first digits of the latter."""
    mean, sd = float(np.nanmean(values)), float(np.nanstd(values, ddof=1))
    digits = max(0, 1 - math.floor(math.log10(sd))) if sd > 0 else 2
    return f"{mean:.{digits}f} ± {sd:.{digits}f}"
