"""From label maps to a category's aligned samples, several cases at a time.

Each label map's structure becomes a surface in world mm, the anchor is chosen, PICCT maps each surface to the anchor's
canonical frame, and there it is sampled. Every step of every case is kept in a file keyed by content and settings: an
interrupted run goes on where it stood, and a change of settings redoes what depends on them.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ..cases.errors import READ_ERRORS, CaseError
from ..cases.sources import LabelSource
from ..organ.pack import Structure
from .anchor import Anchor, align, choose_anchor
from .border import moved_planes
from .cache import cache_file, digest, load_arrays, save_arrays
from .completion import complete_grids
from .label_surface import (
    CutShape,
    LabelSurface,
    ShapeSource,
    closed_mesh,
    extract_surface,
    list_sources,
    surface_key,
)
from .samples import SampleSettings, ShapeSamples, sample_shape, smooth_displacement

logger = logging.getLogger(__name__)

LEAST_SHAPES = 2
Item = TypeVar("Item")


@dataclass
class PreparedShapes:
    """A category's samples and its canonical frame.

    Attributes:
        train: training shapes, augmented copies included.
        validation: held-out shapes.
        anchor_name: the case that is the anchor.
        anchor_points: (K, 3) canonical.
        scale_mm: mm of one canonical unit in the anchor's own frame.
        skipped: case → why it is not used.
        cut: used case → share of its surface on the volume's border; these are known in part.
        n_cases: label maps that training shapes come from.
        volumes_ml: of the training shapes that no border cuts.
        data_hash: SHA-256 over the training cases' label maps.
        settings: how they were sampled.
    """

    train: list[ShapeSamples]
    validation: list[ShapeSamples]
    anchor_name: str
    anchor_points: np.ndarray
    scale_mm: float
    skipped: dict[str, str] = field(default_factory=dict)
    cut: dict[str, float] = field(default_factory=dict)
    n_cases: int = 0
    volumes_ml: list[float] = field(default_factory=list)
    data_hash: str = ""
    settings: SampleSettings = field(default_factory=SampleSettings)

    @property
    def grids(self) -> np.ndarray:
        """Signed distance grids of the training shapes, (S, G, G, G), what is unknown of them completed."""
        return np.stack([shape.grid for shape in self.train])


@dataclass(frozen=True)
class _Failed:
    """Why a case is not used."""

    reason: str
    cut: bool = False


@dataclass(frozen=True)
class _SampleFile:
    """Where the samples of a shape are."""

    name: str
    path: Path
    original: bool
    mirrored: bool

    def read(self) -> ShapeSamples:
        return ShapeSamples(name=self.name, original=self.original, mirrored=self.mirrored, **load_arrays(self.path))


def prepare(
    label_files: Sequence[str | Path],
    structures: Sequence[Structure],
    cache_dir: str | Path,
    settings: SampleSettings | dict | None = None,
    validation_files: Sequence[str | Path] = (),
    anchor: str | None = None,
    workers: int = 1,
    labels: LabelSource | None = None,
) -> PreparedShapes:
    """Turn label maps into training samples of one structure, or of several that share a prior.

    Cases that cannot be used are named and skipped, with a summary at the end.

    Args:
        label_files: NIfTI label maps to learn from.
        structures: what to learn: each is a shape of its own in every label map.
        cache_dir: where the samples are kept.
        settings: `SampleSettings` or a mapping with some of its fields.
        validation_files: label maps held out; aligned to the same anchor, never augmented.
        anchor: name of the training shape to be the anchor; None takes the medoid.
        workers: processes; with 1 all is done in this one.
        labels: how the label maps are read; None for the pack's own values.

    Raises:
        ValueError: fewer than two shapes can be used, or the anchor cannot.
    """
    settings = settings if isinstance(settings, SampleSettings) else SampleSettings(**(settings or {}))
    cache = Path(cache_dir)
    learned_from = list_sources([Path(file) for file in label_files], structures, labels)
    held_out_from = list_sources([Path(file) for file in validation_files], structures, labels)
    sources = [*learned_from, *held_out_from]
    held_out = {source.name for source in held_out_from}
    failed: dict[str, _Failed] = {}

    make_surface = partial(_surface, cache_dir=cache, settings=settings)
    with CasePool(workers) as pool:
        surfaces: list[LabelSurface] = _kept(
            pool.each(make_surface, sources, "surfaces"), [source.name for source in sources], failed
        )
        learned = [surface for surface in surfaces if surface.name not in held_out]
        _require(len(learned), len(learned_from), failed)
        chosen = Anchor.of(learned[choose_anchor(learned, anchor)], settings.seed)
        logger.info("anchor: %s (one canonical unit is %.1f mm)", chosen.name, chosen.scale_mm)

        twins = [surface.mirrored() for surface in learned] if settings.mirror_augment else []
        shapes = [*learned, *twins, *(surface for surface in surfaces if surface.name in held_out)]
        make_samples = partial(_samples, held_out=held_out, anchor=chosen, cache_dir=cache, settings=settings)
        results = pool.each(make_samples, shapes, "samples")
        found = _kept(results, [surface.name for surface in shapes], failed)
    samples = [file.read() for group in found for file in group]
    train = [shape for shape in samples if shape.name not in held_out]
    validation = [shape for shape in samples if shape.name in held_out]
    _require(sum(shape.original for shape in train), len(learned_from), failed)
    _complete(train, validation)

    cut = {surface.name: round(surface.cut_share, 4) for surface in surfaces if surface.is_cut}
    _summarise(failed, cut, len(sources))
    used = sorted(surface.key for surface in learned if surface.name not in failed)
    cases = {source.file for source in learned_from if source.name not in failed}
    return PreparedShapes(
        train=train,
        validation=validation,
        anchor_name=chosen.name,
        anchor_points=chosen.points,
        scale_mm=chosen.scale_mm,
        skipped={name: failure.reason for name, failure in failed.items()},
        cut={name: share for name, share in cut.items() if name not in failed},
        n_cases=len(cases),
        volumes_ml=[s.volume_ml for s in learned if s.name not in failed and not s.is_cut],
        data_hash=digest("data", used),
        settings=settings,
    )


def _surface(source: ShapeSource, cache_dir: Path, settings: SampleSettings) -> LabelSurface | _Failed:
    """`extract_surface`, or why there is none."""
    try:
        return extract_surface(source, surface_key(source, settings), cache_dir, settings)
    except CutShape as error:
        return _Failed(str(error), cut=True)
    except (*READ_ERRORS, CaseError) as error:
        return _Failed(str(error) or type(error).__name__)


def _samples(
    surface: LabelSurface, held_out: set[str], anchor: Anchor, cache_dir: Path, settings: SampleSettings
) -> list[_SampleFile] | _Failed:
    """Align a surface and sample it and, in training, its deformed copies."""
    sampling = {key: value for key, value in asdict(settings).items() if not key.endswith("_augment")}
    try:
        similarity, key = align(surface, anchor, settings, cache_dir)
        faces = np.asarray(surface.mesh.faces)
        faces = faces[:, ::-1].copy() if similarity.mirrored else faces
        vertices = similarity.apply(surface.mesh.vertices)
        planes = moved_planes(surface.planes, similarity)
        jobs = [(surface.name, "~" not in surface.name)]
        # a deformed copy of a cut shape would have a border that is no plane
        copies = 0 if surface.is_cut or surface.name in held_out else settings.deform_augment
        jobs += [(f"{surface.name}~deform{copy + 1}", False) for copy in range(copies)]
        files = []
        for name, original in jobs:
            path = cache_file(cache_dir, "shape", digest(key, sampling, name))
            if not path.is_file():
                moved = vertices
                if "~deform" in name:
                    seed = zlib.crc32(f"{settings.seed}/{name}".encode())
                    amplitude, wavelength = settings.deform_amplitude, settings.deform_wavelength
                    moved = vertices + smooth_displacement(vertices, amplitude, wavelength, seed)
                shape = sample_shape(closed_mesh(moved, faces), name, settings, original, planes)
                own = ("name", "original", "mirrored")
                save_arrays(path, {entry: value for entry, value in vars(shape).items() if entry not in own})
            files.append(_SampleFile(name, path, original, similarity.mirrored))
        return files
    except ValueError as error:
        return _Failed(str(error))


def _kept(results: Sequence[Any], names: Sequence[str], failed: dict[str, _Failed]) -> list[Any]:
    """Results without the failures, which are named and noted in `failed`."""
    for name, result in zip(names, results, strict=True):
        if isinstance(result, _Failed):
            failed[name] = result
            logger.warning("skipped %s: %s", name, result.reason)
    return [result for result in results if not isinstance(result, _Failed)]


class CasePool:
    """Processes that work on one case each, started afresh ("spawn", as torch's threads do not survive a fork).

    Args:
        workers: number of processes; with 1 all is done in this one.
    """

    def __init__(self, workers: int) -> None:
        self.pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers > 1 else None

    def __enter__(self) -> CasePool:
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def each(self, make: Callable[[Item], Any], items: Sequence[Item], description: str) -> list[Any]:
        """Results of a picklable function for every item, in order, with a progress bar that `description` heads."""
        results = map(make, items) if self.pool is None else self.pool.map(make, items)
        return list(tqdm(results, total=len(items), desc=description, unit="case", disable=None))


def _complete(train: list[ShapeSamples], validation: list[ShapeSamples]) -> None:
    """Fill in the grids of cut shapes what is unknown, from the training shapes' linear model."""
    shapes = [*train, *validation]
    if all(shape.grid_known.all() for shape in shapes):
        return
    grids = np.stack([shape.grid for shape in shapes])
    known = np.stack([shape.grid_known for shape in shapes])
    for shape, grid in zip(shapes, complete_grids(grids, known, len(train)), strict=True):
        shape.grid = grid


def _require(usable: int, given: int, failed: dict[str, _Failed]) -> None:
    """Raise where too few shapes remain, with all reasons."""
    if usable < LEAST_SHAPES:
        reasons = "".join(f"\n  {name}: {failure.reason}" for name, failure in failed.items())
        hint = "; try --cut_shapes observed" if any(failure.cut for failure in failed.values()) else ""
        raise ValueError(
            f"a prior needs at least two usable shapes, not {usable} of {given}{hint}. Skipped:{reasons or ' none'}"
        )


def _summarise(failed: dict[str, _Failed], cut: dict[str, float], given: int) -> None:
    """Log which cases were left out, and which are used in part."""
    if failed:
        lines = "".join(f"\n  {name}: {failure.reason}" for name, failure in failed.items())
        logger.warning("%d of %d shapes are not used:%s", len(failed), given, lines)
    partly = {name: share for name, share in cut.items() if name not in failed}
    if partly:
        lines = "".join(f"\n  {name}: {share:.1%} of its surface on the border" for name, share in partly.items())
        logger.warning("%d shapes are cut by the field of view and used where they are seen:%s", len(partly), lines)
