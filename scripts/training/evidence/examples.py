"""Examples: what a voxel head sees of flawed masks that went through the refiner, and the truth beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...cases.files import whole_file
from ...cases.read import read_array
from ...cases.sources import LabelSource
from ...evidence.channels import CHANNELS, voxel_channels
from ...geometry.affine import apply_affine, box_affine, spacing_mm
from ...geometry.resample import WorldGrid, resample
from ...geometry.surface import crop_box, mask_signed_distance
from ...refine.chain import Refiner
from ...refine.seen import scene_of
from ...refine.stages import Fitted, Image, Seen
from .drafts import Organ, draft, warp, warped

PARTS = ("at", "values", "truth")
MARGIN_MM = 30.0  # of the image around the organs
MILD = 1.3  # power of the uniform number that is a draft's severity: more drafts are good than poor


@dataclass(frozen=True)
class Example:
    """What a voxel head sees of one structure of a draft, and what is true.

    Attributes:
        at: (N, 3) int16, where its voxels lie, see `Scene.upright`.
        values: (N, C) float16, their channels.
        truth: (N,) bool.
    """

    at: np.ndarray
    values: np.ndarray
    truth: np.ndarray


Examples = dict[str, list[Example]]  # structure → one a draft


@dataclass(frozen=True)
class Case:
    """A patient, cut to the organs, on the image's grid, or that of the label map where there is no image.

    Attributes:
        name: of the files.
        image: (X, Y, Z); None without one.
        signed_mm: structure → signed distance (X, Y, Z) of the truth, mm; structures that are missing are left out.
        masks: real networks' label maps (X, Y, Z).
        affine: (4, 4) voxel → world mm.
        organs: structure → the organ, as a donor of shapes for other patients' drafts.
    """

    name: str
    image: np.ndarray | None
    signed_mm: dict[str, np.ndarray]
    masks: list[np.ndarray]
    affine: np.ndarray
    organs: dict[str, Organ]


def read_case(
    name: str, image_dir: Path | None, label_dir: Path, mask_dirs: Sequence[Path], refiner: Refiner, source: str = ""
) -> Case:
    """Read a patient; folders of masks that lack the patient are passed over.

    Args:
        name: of the patient's files.
        image_dir: folder of images; None without such.
        label_dir: of true label maps.
        mask_dirs: of real networks' masks.
        refiner: of the pack.
        source: whose labels these have, one of the pack's sources; "" for its own.

    Raises:
        ValueError: the label map has none of the pack's structures.
    """
    known = LabelSource.of(refiner.pack, source)
    image: np.ndarray | None = None
    if image_dir is None:
        given = known.read(label_dir / name)
        shape, affine = given.values.shape, given.affine
    else:
        image, affine = read_array(image_dir / name)
        shape = image.shape
    grid = WorldGrid(affine, (shape[0], shape[1], shape[2]))

    def on_grid(file: Path) -> np.ndarray:
        given = known.read(file)
        return np.maximum(resample(given.in_pack_values(), given.affine, grid, order=0), 0)

    labels = on_grid(label_dir / name)
    if not (labels > 0).any():
        raise ValueError(f"{label_dir / name} is empty{'' if image_dir is None else ' where its image lies'}")
    box = crop_box(labels > 0, [int(np.ceil(MARGIN_MM / h)) for h in spacing_mm(affine)])
    cut = box_affine(affine, [side.start for side in box])
    masks = [on_grid(folder / name)[box].copy() for folder in mask_dirs if (folder / name).is_file()]
    found = {n: m for n, m in refiner.pack.masks(labels[box], cut).items() if m.any()}
    organs = {n: Organ(m, cut) for n, m in found.items()}
    cut_image = None if image is None else image[box].copy()
    return Case(name, cut_image, {n: organ.signed_mm for n, organ in organs.items()}, masks, cut, organs)


def make_examples(
    case: Case,
    donors: Sequence[Case],
    mask: np.ndarray | None,
    refiner: Refiner,
    step_mm: float,
    seed: int,
    prior: bool = True,
) -> dict[str, Example]:
    """Return one example a structure of a draft of a patient, both of them deformed at random.

    Args:
        case: the patient.
        donors: other patients, whose organs are blended in.
        mask: a real network's label map of the patient, which is the draft then; None to make one.
        refiner: fits the priors of the pack.
        step_mm: the head's spacing.
        seed: of all that is random.
        prior: false for what a head sees that is told nothing of the fits.
    """
    rng = np.random.default_rng(seed)
    x, y, z = next(iter(case.signed_mm.values())).shape
    shape = (x, y, z)
    radius_mm = float(np.exp(np.mean([np.log(organ.radius_mm) for organ in case.organs.values()])))
    index = warp(shape, case.affine, radius_mm, rng)
    truth_mm = {name: warped(signed, index) for name, signed in case.signed_mm.items()}
    label_map = np.zeros(shape, np.int32)
    severity = rng.uniform() ** MILD
    given = {} if mask is None else refiner.pack.masks(mask, case.affine)
    for name in rng.permutation(list(truth_mm)):
        if mask is not None:
            own = warped(mask_signed_distance(given[name], spacing_mm(case.affine)), index) < 0
        else:
            organ = Organ(truth_mm[name] < 0, case.affine)
            others = [donor.organs[name] for donor in donors if name in donor.organs]
            other = others[rng.integers(len(others))] if others else organ
            own = draft(organ, other, float(np.clip(severity + rng.normal(0.0, 0.1), 0.0, 1.0)), rng)
        label_map[own & (label_map == 0)] = refiner.pack.structure(name).labels[0]
    image = None if case.image is None else Image(warped(case.image, index), case.affine)
    aligned = refiner.align(label_map, case.affine)
    stages = refiner.fit(refiner.sample(aligned, label_map, case.affine, enlarged=True))
    return {
        stage.name: _example(stage, truth_mm[stage.name], label_map, image, refiner, step_mm, prior)
        for stage in stages
        if isinstance(stage, Fitted) and stage.name in truth_mm
    }


def _example(
    stage: Fitted,
    truth_mm: np.ndarray,
    label_map: np.ndarray,
    image: Image | None,
    refiner: Refiner,
    step_mm: float,
    prior: bool,
) -> Example:
    measured = refiner.steps[stage.name].reconstruction.measure(stage)
    seen = Seen(image, label_map, stage.mask)
    scene = scene_of(stage, seen, measured.box, measured.grid, measured.fit_mm, measured.context_mm, step_mm)
    scene = scene if prior else scene.without_fits()
    index, values = voxel_channels(scene)
    truth = sample(truth_mm, stage.affine, apply_affine(scene.grid.affine, index)) < 0
    return Example(scene.upright(index).astype(np.int16), values.astype(np.float16), truth)


def sample(volume: np.ndarray, affine: np.ndarray, points_world: np.ndarray) -> np.ndarray:
    """Interpolate a volume (X, Y, Z) linearly at world points (N, 3); beyond it, its border's values go on."""
    index = apply_affine(np.linalg.inv(affine), points_world)
    return ndimage.map_coordinates(volume, index.T, order=1, mode="nearest")


def unknown(examples: Examples, channels: Sequence[str]) -> Examples:
    """Return examples whose heads are not told of some channels: these become NaN, in place."""
    columns = [CHANNELS.index(channel) for channel in channels]
    for one in (one for own in examples.values() for one in own):
        one.values[:, columns] = np.nan
    return examples


def save_examples(path: Path, examples: Examples) -> None:
    """Write examples as plain arrays."""
    arrays = {
        f"{name}|{number}|{part}": getattr(one, part)
        for name, own in examples.items()
        for number, one in enumerate(own)
        for part in PARTS
    }
    with whole_file(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def load_examples(path: Path) -> Examples:
    """Read examples that `save_examples` wrote."""
    found: Examples = {}
    with np.load(path, allow_pickle=False) as stored:
        keys = sorted({key.rpartition("|")[0] for key in stored.files})
        for key in keys:
            one = Example(*(stored[f"{key}|{part}"] for part in PARTS))
            found.setdefault(key.rpartition("|")[0], []).append(one)
    return found
