"""The files of a study of shapes: arrays, tables a column a point, the mean shape, and a picture of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import ArrayLike

from ..cases.files import whole_file, write_csv
from ..cases.mesh import write_mesh
from ..metrics.groups import Comparison
from .gallery import Exhibit, draw_gallery
from .pictures import DEVIATION, Camera
from .shape_groups import Groups
from .shape_study import Study

SPREAD = colormaps["viridis"]
GREY = np.array((205, 200, 190), np.uint8)
LEVEL = 0.05  # false discovery rate up to which a point is marked
T_LIMIT = 6.0  # at which the colours saturate
COLUMNS = ("case", "structure", "group")


def write_study(
    folder: Path,
    name: str,
    study: Study,
    told: Sequence[Mapping[str, Any]],
    codes: Sequence[Sequence[float]],
    groups: Groups | None,
) -> None:
    """Write the files of a study.

    Args:
        folder: for them; made if need be.
        name: their names' beginning.
        study: S shapes at N points.
        told: case, structure and, where there are groups, group of each shape.
        codes: of each shape; () where they are not known.
        groups: two that are compared; None for none.
    """
    found = None if groups is None else groups.compare(study.distance_mm)
    heads = [{key: row[key] for key in COLUMNS if key in row} for row in told]
    for what, values in (("distance_mm", study.distance_mm), ("thickness_mm", study.thickness_mm)):
        rows = [
            head | {f"point{n}": float(value) for n, value in enumerate(own)}
            for head, own in zip(heads, values, strict=True)
        ]
        write_csv(folder / f"{name}_{what}.csv", rows)
    _write_arrays(folder / f"{name}.npz", study, heads, codes, groups, found)
    data = vertex_data(study, found)
    for ending in ("ply", "vtp"):
        write_mesh(folder / f"{name}_mean.{ending}", study.mean_mesh, data)
    draw_study(folder / f"{name}.png", study, groups, found)


def vertex_data(study: Study, found: Comparison | None) -> dict[str, ArrayLike]:
    """Return what the mean shape's points have in its file: names → (N,) numbers, float32 but for the colours.

    Colours are those of t where the groups differ, grey elsewhere; of the distances' standard deviation without groups.
    """
    colours = spread_colours(study)[0] if found is None else t_colours(found, marked_only=True)
    numbers = {
        "n": study.known.sum(axis=0),
        "sd_mm": _sd(study.distance_mm),
        "mean_thickness_mm": _mean(study.thickness_mm),
        **{f"template_{axis}": study.template.places[:, k] for k, axis in enumerate("xyz")},
    }
    if found is not None:
        numbers |= {"difference_mm": found.difference, "t": found.t, "p": found.p, "q": found.q}
    own = {name: colours[:, k] for k, name in enumerate(("red", "green", "blue"))}
    return {**own, **{key: np.asarray(values, np.float32) for key, values in numbers.items()}}


def draw_study(path: Path, study: Study, groups: Groups | None, found: Comparison | None) -> None:
    """Draw the mean shape from two sides: how far the shapes spread, and where two groups differ."""
    mesh = study.mean_mesh
    camera = Camera.upright(mesh)
    back = Camera(-camera.right, camera.up, -camera.towards)

    def both(title: str, colours: np.ndarray) -> list[Exhibit]:
        return [Exhibit(title, mesh, colours, camera), Exhibit("from the other side", mesh, colours, back)]

    colours, most = spread_colours(study)
    row = both(f"sd, yellow: {most:.1f} mm", colours)
    title = f"{len(study.points)} shapes: standard deviation of the distance from their mean"
    if groups is not None and found is not None:
        first, second = groups.names
        row += both(f"t, red: from {T_LIMIT:g} on", t_colours(found))
        row += both(f"t where q < {LEVEL:g}", t_colours(found, marked_only=True))
        title = f"red: {first} lies farther outside than {second}; blue: farther inside"
    draw_gallery(path, [row], title, dpi=130)


def spread_colours(study: Study) -> tuple[np.ndarray, float]:
    """Return RGB (N, 3) uint8 of the distances' standard deviation, and the mm at which they saturate."""
    spread = np.nan_to_num(_sd(study.distance_mm))
    most = max(float(np.percentile(spread, 99)), 1e-6)
    return _rgb(SPREAD(np.clip(spread / most, 0.0, 1.0))), most


def t_colours(found: Comparison, marked_only: bool = False) -> np.ndarray:
    """Return RGB (N, 3) uint8 of t; grey where it is not known or, if asked for, where the groups do not differ."""
    colours = _rgb(DEVIATION((np.clip(np.nan_to_num(found.t) / T_LIMIT, -1.0, 1.0) + 1.0) / 2.0))
    grey = np.isnan(found.t) | (marked_only & ~(found.q < LEVEL))
    return np.where(grey[:, None], GREY, colours)


def _write_arrays(
    path: Path,
    study: Study,
    heads: Sequence[Mapping[str, Any]],
    codes: Sequence[Sequence[float]],
    groups: Groups | None,
    found: Comparison | None,
) -> None:
    arrays: dict[str, np.ndarray] = {key: np.array([head[key] for head in heads]) for key in heads[0]}
    for key in ("points", "mean", "known", "distance_mm", "thickness_mm", "modes", "scores", "variance"):
        values = getattr(study, key)
        arrays[key] = values.astype(np.float32) if values.dtype.kind == "f" else values
    arrays |= {"template_points": study.template.places, "faces": study.template.faces}
    arrays["weights"] = study.template.weights
    if len({len(one) for one in codes}) == 1 and len(codes[0]):
        arrays["codes"] = np.array(codes, np.float32)
    if groups is not None and found is not None:
        arrays |= {"groups": np.array(groups.names), "paired": np.array(groups.paired)}
        arrays |= {"difference_mm": found.difference, "t": found.t, "p": found.p, "q": found.q}
    with whole_file(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def _sd(values: np.ndarray) -> np.ndarray:
    """Return the sample standard deviation (N,) of values (S, N) that are not NaN; NaN for fewer than two."""
    counted = (~np.isnan(values)).sum(axis=0)
    squares = np.nansum((values - _mean(values)) ** 2, axis=0)
    return np.where(counted > 1, np.sqrt(squares / np.maximum(counted - 1, 1)), np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean (N,) of values (S, N) that are not NaN; NaN where there are none."""
    counted = (~np.isnan(values)).sum(axis=0)
    return np.where(counted > 0, np.nansum(values, axis=0) / np.maximum(counted, 1), np.nan)


def _rgb(colours: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.asarray(colours)[:, :3]).astype(np.uint8)
