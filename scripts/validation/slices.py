"""`python -m scripts slices`: thick or few slices made of thin ones, and back: with the prior and without."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..cases.files import write_csv, write_text
from ..cases.find import case_name
from ..cases.sources import LabelSource
from ..cases.split import choose_labels
from ..evaluation.tables import markdown_table
from ..geometry.affine import spacing_mm
from ..geometry.resample import WorldGrid
from ..geometry.surface import crop_box
from ..metrics.surface import score_masks
from ..organ.pack import OrganPack
from ..refine.chain import Refiner
from ..refine.drawing import Drawing, parts_of
from ..refine.finer import labels_on
from ..refine.planes import DrawnSlices
from ..run.request import Request
from ..simulation.simulate import read_truth
from .interpolation import METHODS, nearest_drawn, thickened

OURS, SPARSE = "refine --fine_mm", "refine --sparse"
THICK, DRAWN = "slices_mm", "drawn_slices"
THICKEST_TRUTH = 1.5  # times `fine_mm`: thicker label maps say too little of what lies between


def slices(
    organ: str,
    label_dir: str,
    output_dir: str,
    thick_mm: str | float | Sequence[float] = "5,10",
    fine_mm: float = 1.0,
    drawn: str | int | Sequence[int] = "",
    structures: str | Sequence[str] = "",
    grid_mm: float = 0.0,
    split: str = "validation",
    cases: int = 0,
    seed: int = 0,
    device: str = "",
    label_source: str = "",
) -> str:
    """Measure how well a pack's prior finds what lies between thick slices.

    True label maps of thin slices are made thick, refined with `fine_mm`, and compared with the truth; likewise for
    interpolation without a prior: nearest and linear of the mask, shape-based of each slice's signed distance, and of
    the signed distance in 3D. Slices are those across the axis nearest to the body's. Thinner ones than `fine_mm` are
    made that thick first; label maps of slices more than half thicker than that are left out.

    With `drawn`, all but so many slices of each structure are emptied instead, evenly spaced along its longest axis,
    and refined as with `--sparse true`. Of the interpolations the nearest slice and the shape-based one are made.

    Args:
        organ: name of the organ pack, or path of its folder.
        label_dir: folder of true label maps.
        output_dir: receives slices.md and slices.csv.
        thick_mm: thicknesses, such as 5,10.
        fine_mm: thickness to come back to.
        drawn: numbers of slices that are left, such as 3,5,9; empty for thick slices.
        structures: of the pack, such as spleen; the labels of others are emptied. Empty for all.
        grid_mm: voxels are joined first where their sides stay at most so long, of thick slices only within the slice;
            0 to keep all.
        split: the pack's split to take the cases from; empty for all of the folder, which must then be unseen.
        cases: at most so many, spread evenly over their names; 0 for all.
        seed: of the fits.
        device: cpu or cuda; empty for cuda where there is one.
        label_source: whose labels the label maps have, one of the organ pack's sources, where no names tell.

    Returns:
        The path of slices.md.

    Raises:
        ValueError: an option makes no sense, the split's label maps are not in the folder, or all are too thick.
        CaseError: a label map cannot be used.
        SystemExit: the pack lacks a prior.
    """
    thicknesses, counts = _numbers(thick_mm), [int(one) for one in _numbers(drawn)]
    if not 0 < fine_mm < min(thicknesses):
        raise ValueError(f"thick_mm {thick_mm} must be more than fine_mm {fine_mm}, which must be above 0")
    if min(counts, default=2) < 2:
        raise ValueError(f"drawn {drawn}: at least two slices are needed")
    found = Request.of(organ, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), seed=seed)
    refiner = found.require().refiner
    assert refiner is not None  # it was asked for
    wanted = labels_of(refiner.pack, structures)
    files = choose_labels(label_dir, refiner.pack, split, cases)
    labels = LabelSource.of(refiner.pack, label_source)
    rows: list[dict[str, Any]] = []
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    for file in tqdm(files, desc="slices", unit="case", disable=None):
        label_map, affine, _ = read_truth(file, labels)
        across = None if counts else upright_axis(affine)
        label_map, affine = coarsened(np.where(np.isin(label_map, wanted), label_map, 0), affine, grid_mm, across)
        head = {"case": case_name(file)}
        if counts:
            rows += [head | row for count in counts for row in score_drawn(refiner, label_map, affine, count)]
        elif (truth := thin_truth(label_map, affine, fine_mm)) is not None:
            rows += [head | row for thickness in thicknesses for row in score(refiner, *truth, thickness)]
        if rows:
            write_csv(out / "slices.csv", rows)  # after each case, to look at while it runs
    if not rows:
        raise ValueError(f"{label_dir} has no label map with slices of at most {THICKEST_TRUTH * fine_mm:g} mm")
    options: dict[str, Any] = {"organ": organ, "label_dir": label_dir, "output_dir": output_dir, "thick_mm": thick_mm}
    options |= {"fine_mm": fine_mm, "split": split, "cases": cases, "seed": seed}
    options |= {"drawn": drawn} if counts else {}
    options |= {"structures": structures} if structures else {}
    options |= {"grid_mm": grid_mm} if grid_mm else {}
    options |= {"label_source": label_source} if label_source else {}
    command = "python -m scripts slices " + " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items())
    write_text(out / "slices.md", page(refiner.pack.name, command, rows))
    return str(out / "slices.md")


def labels_of(pack: OrganPack, structures: str | Sequence[str]) -> list[int]:
    """Return the labels of named structures of a pack, such as "spleen,stomach"; of all where none are named.

    Raises:
        ValueError: the pack has no structure of that name.
    """
    names = structures.split(",") if isinstance(structures, str) else list(structures)
    names = [name.strip() for name in names if name.strip()]
    known = {structure.name: structure.labels for structure in pack.structures}
    for name in names:
        if name not in known:
            raise ValueError(f"structures: organ '{pack.name}' has no '{name}'; it has {', '.join(known)}")
    return [label for name in names or known for label in known[name]]


def coarsened(
    label_map: np.ndarray, affine: np.ndarray, grid_mm: float, but: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Join voxels of a label map (X, Y, Z) to sides of at most `grid_mm` along all axes but one, see `thickened`.

    Returns:
        The label map, and its affine (4, 4).
    """
    for axis, count in enumerate((grid_mm / spacing_mm(affine) + 0.01).astype(int)):
        if count > 1 and axis != but:
            label_map, affine = thickened(label_map, affine, axis, int(count))
    return label_map, affine


def upright_axis(affine: np.ndarray) -> int:
    """Return the axis of the array that is nearest to the body's; `affine` is (4, 4), voxel → world mm."""
    return int(np.argmax(np.abs(affine[2, :3]) / spacing_mm(affine)))


def thin_truth(label_map: np.ndarray, affine: np.ndarray, fine_mm: float) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Return a label map (X, Y, Z) with slices of about `fine_mm`, its affine, and the slices' axis.

    None where its slices are much thicker than that.
    """
    axis = upright_axis(affine)
    count = int(max(round(fine_mm / spacing_mm(affine)[axis]), 1))
    label_map, affine = thickened(label_map, affine, axis, count)
    return None if spacing_mm(affine)[axis] > THICKEST_TRUTH * fine_mm else (label_map, affine, axis)


def score(
    refiner: Refiner, truth: np.ndarray, affine: np.ndarray, axis: int, thickness_mm: float
) -> list[dict[str, Any]]:
    """Score all ways from thick slices to the truth's: a row a structure and method, with HD95 and ASSD in mm."""
    count = int(round(thickness_mm / spacing_mm(affine)[axis]))
    thick, thick_affine = thickened(truth, affine, axis, count)
    truth = np.moveaxis(np.moveaxis(truth, axis, 0)[: thick.shape[axis] * count], 0, axis)
    x, y, z = truth.shape
    refined, shapes = refiner.refine(thick, thick_affine)
    fine = labels_on(refiner.pack, refined, thick_affine, shapes, WorldGrid(affine, (x, y, z)))
    parts = [dict(_named(refiner, *one)) for one in ((truth, affine), (thick, thick_affine), (fine, affine))]
    rows = []
    for name in [name for name in parts[0] if name in parts[1]]:
        mask, spacing, ours = parts[1][name], spacing_mm(thick_affine), parts[2].get(name, np.zeros(truth.shape, bool))
        thin = np.moveaxis(parts[0][name] | ours, axis, 0)
        there = thin.reshape(-1, count, *thin.shape[1:]).any(axis=1)
        box = crop_box(mask | np.moveaxis(there, 0, axis), 2)  # what lies beyond changes nothing
        sides = list(box)
        sides[axis] = slice(count * box[axis].start, count * box[axis].stop)
        fine_box = tuple(sides)
        results = {method: way(mask[box], spacing, axis, count) for method, way in METHODS.items()}
        results[OURS] = ours[fine_box]
        for method, result in results.items():
            scores = score_masks(result, parts[0][name][fine_box], affine, refiner.pack.nsd_tolerance_mm)
            figures = {key: round(float(scores[key]), 4) for key in ("hd95_mm", "assd_mm", "dsc")}
            rows.append({"structure": name, THICK: thickness_mm, "method": method} | figures)
    return rows


def score_drawn(refiner: Refiner, truth: np.ndarray, affine: np.ndarray, count: int) -> list[dict[str, Any]]:
    """Score what comes of `count` slices of each structure of a true label map: a row a structure and method."""
    rows = []
    for structure, mask in refiner.pack.shapes(truth, affine):
        if not mask.any():
            continue
        axis, places = spread_slices(mask, spacing_mm(affine), count)
        few = np.zeros_like(truth)
        np.moveaxis(few, axis, 0)[places] = np.moveaxis(np.where(mask, truth, 0), axis, 0)[places]
        drawing = Drawing(DrawnSlices.across({axis: places}), tuple(parts_of(few, affine, refiner.pack)))
        filled = drawing.fill(few, affine)
        aligned = refiner.align(filled, affine)
        fitted = refiner.fit(refiner.sample(aligned, filled, affine, drawn=drawing))
        refined, _ = refiner.reconstruct(fitted, filled, affine)
        results = {"nearest": nearest_drawn(few, axis, places), "shape-based": filled, SPARSE: refined}
        for method, found in results.items():
            scores = score_masks(structure.mask(found, affine), mask, affine, refiner.pack.nsd_tolerance_mm)
            figures = {key: round(float(scores[key]), 4) for key in ("hd95_mm", "assd_mm", "dsc")}
            rows.append({"structure": structure.name, DRAWN: count, "method": method} | figures)
    return rows


def spread_slices(mask: np.ndarray, spacing: np.ndarray, count: int) -> tuple[int, list[int]]:
    """Return the axis along which a mask (X, Y, Z) bool is longest, and `count` slices spread evenly across it."""
    filled = [np.flatnonzero(np.moveaxis(mask, axis, 0).any(axis=(1, 2))) for axis in range(3)]
    axis = int(np.argmax([(places[-1] - places[0]) * h for places, h in zip(filled, spacing, strict=True)]))
    first, length = int(filled[axis][0]), int(filled[axis][-1] - filled[axis][0]) + 1
    return axis, sorted({first + int((k + 0.5) * length / count) for k in range(count)})


def _numbers(given: str | float | Sequence[float]) -> list[float]:
    listed = given.split(",") if isinstance(given, str) else np.atleast_1d(given).tolist()
    return [float(one) for one in listed if str(one).strip()]


def _named(refiner: Refiner, label_map: np.ndarray, affine: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [(shape.name, mask) for shape, mask in refiner.pack.shapes(label_map, affine) if mask.any()]


def page(organ: str, command: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the page: means over all structures and cases, then structure by structure where there are several."""
    key, title, ours = (
        (DRAWN, "a few slices made whole", SPARSE)
        if DRAWN in rows[0]
        else (THICK, "thick slices made thin again", OURS)
    )
    lines = [f"# {organ}: {title}", "", "```bash", command, "```", ""]
    names = list(dict.fromkeys(row["structure"] for row in rows))
    for name in ([""] if len(names) > 1 else []) + names:
        own = [row for row in rows if not name or row["structure"] == name]
        body = []
        for size in sorted({row[key] for row in own}):
            for method in [method for method in (*METHODS, ours) if any(row["method"] == method for row in own)]:
                group = [row for row in own if (row[key], row["method"]) == (size, method)]
                means = [np.mean([row[figure] for row in group]) for figure in ("hd95_mm", "assd_mm", "dsc")]
                body.append([f"{size:g}", method, str(len(group)), *(f"{m:.2f}" for m in means)])
        lines += [f"## {name or 'all structures'}", ""]
        lines += [markdown_table([key.replace("_", " "), "method", "n", "HD95 mm", "ASSD mm", "DSC %"], body), ""]
    return "\n".join(lines)
