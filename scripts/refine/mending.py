"""The first reading of an image: masks mended by their linear fits, for the fits to follow.

A fit to a poor mask is poor, and misleads the voxel head that reads the image with it. So the head reads twice: first
with the fast linear fit, and at last with the fit to what it saw at first. Where the first reading shows a mask to be
poor, or the image's two readers disagree, there is one more between the two. An image about which they agree in no
structure is not followed; one structure alone may be hard to see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import trimesh

from ..geometry.affine import Similarity, box_affine
from ..geometry.boxed import BoxedMask
from ..geometry.surface import mask_to_surface, sample_surface
from .merge import merge
from .odds import BELIEVED, LEGIBLE
from .reconstruction import IMAGE, Reconstruction
from .second_reader import SecondReader
from .side_by_side import side_by_side
from .stages import Fitted, Image, Sampled, Seen, Unrefined
from .steps import Steps


@dataclass(frozen=True)
class Mended:
    """What an image made of a mask at first.

    Attributes:
        similarity: world → canonical, of the linear fit.
        seen: image, mended label map, and mended mask.
        surface: closed surface of the mended mask, world mm.
    """

    similarity: Similarity
    seen: Seen
    surface: trimesh.Trimesh


def mend(
    sampled: Sequence[Sampled | Unrefined],
    label_map: np.ndarray,
    affine: np.ndarray,
    image: Image,
    steps: Mapping[str, Steps],
    resampled: Callable[[str, Mended], Sampled | Unrefined],
    second: SecondReader | None = None,
) -> dict[str, Mended]:
    """Read the image with the linear fits; of poor masks, and where it is disputed, once more, with fits to what came.

    Args:
        sampled: the structures.
        label_map: (X, Y, Z) that they are of.
        affine: (4, 4) voxel → world mm.
        image: on any grid.
        steps: shape name → its steps.
        resampled: structure name and what came of it → the structure, sampled anew (with the joint model as it was).
        second: the second reader of the image, where there is one.

    Returns:
        Structure name → what came of it; those that the image has no say in, or leaves nothing of, are not among them.
        Of an image whose readers hardly agree that is the masks as they were, and the image is not seen any more.
    """

    def seen(label_map: np.ndarray, mask: BoxedMask) -> Seen:
        return Seen(image, label_map, mask, second)

    def read(one: Sampled | Unrefined) -> tuple[Fitted, Reconstruction] | None:
        if isinstance(one, Unrefined) or steps[one.name].settings.method == "paper":
            return None
        own = steps[one.name]
        try:
            fit = own.finetune.linear(one.samples, one.transform, one.prior)
            first = replace(one.then(Fitted, fit=fit), seen=one.seen or seen(label_map, one.mask))
            part = own.reconstruction.judge(own.reconstruction.measure(first), first)
        except ValueError:
            return None  # there is no linear model, or the fit has left the grid
        return (first, part) if part.evidence == IMAGE and (part.signed_mm < 0).any() else None

    def read_all(some: Sequence[Sampled | Unrefined]) -> dict[str, tuple[Fitted, Reconstruction]]:
        voxels = max((one.mask.part.size for one in some if isinstance(one, Sampled)), default=0)
        found = side_by_side(read, some, voxels)
        return {pair[0].name: pair for pair in found if pair is not None}

    parts = read_all(sampled)
    mended = _mended(parts, label_map, affine, seen)
    again = [name for name in mended if parts[name][1].poor or _hardly_agreed(parts[name][1])]
    if again:
        parts |= read_all([resampled(name, mended[name]) for name in again])
        if not all(_hardly_agreed(part, LEGIBLE) for _, part in parts.values()):
            return _mended(parts, label_map, affine, seen)
        mended = {
            one.name: Mended(
                one.transform.similarity,
                Seen(None, label_map, one.mask, disputed=parts[one.name][1].agreement),
                one.surface,
            )
            for one in sampled
            if isinstance(one, Sampled) and one.name in parts
        }
    return mended


def _hardly_agreed(part: Reconstruction, least: float = BELIEVED) -> bool:
    """Whether the image's readers were both asked about a structure, and agree less than that."""
    return part.agreement is not None and part.agreement < least


def _mended(
    parts: Mapping[str, tuple[Fitted, Reconstruction]],
    label_map: np.ndarray,
    affine: np.ndarray,
    seen: Callable[[np.ndarray, BoxedMask], Seen],
) -> dict[str, Mended]:
    """Return what came of structures, side by side in one label map; `seen` says what heads see of them then."""
    if not parts:
        return {}
    mended, after = merge(label_map, affine, list(parts.values()))
    found: dict[str, Mended] = {}
    for name, (first, _) in parts.items():
        mask = after[name]
        try:
            surface = mask_to_surface(mask.part, box_affine(affine, [side.start for side in mask.box]))
            sample_surface(surface, 1, 0)
        except ValueError:
            continue  # hardly anything is left
        found[name] = Mended(first.fit.similarity, seen(mended, mask), surface)
    return found
