"""Placing: each shape's surface and its place in the canonical frame (METHOD 1).

A mask may hold more than its organ. Where its alignment fails or does not settle, what is probably the organ is aligned
by itself; what becomes of the rest is decided later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import trimesh

from ..geometry.boxed import BoxedMask
from ..geometry.picct import CanonicalTransform
from ..geometry.surface import mask_to_surface, sample_surface
from ..geometry.turns import better_turned
from ..organ.pack import Structure
from .bodies import largest_body, two_organs
from .lengths import Lengths
from .likeness import unlike
from .side_check import as_partner
from .stages import Aligned, Unrefined
from .steps import Steps

LEAST_VOXELS = 8


@dataclass(frozen=True)
class Placing:
    """Aligns shapes.

    Attributes:
        steps: shape name → its steps.
        partners: structure name → the same of the patient's other side, where that has a prior of its own.
        has_joint: whether a joint model judges later what lies beside an organ.
        seed: of the points drawn.
    """

    steps: Mapping[str, Steps]
    partners: Mapping[str, str]
    has_joint: bool
    seed: int

    def __call__(
        self, structure: Structure, mask: np.ndarray, affine: np.ndarray, side_known: bool
    ) -> Aligned | Unrefined:
        """Align one shape.

        Args:
            structure: of the pack.
            mask: (X, Y, Z) bool.
            affine: (4, 4) voxel → world mm, RAS+.
            side_known: whether its label is known to be of the right side; else its partner's prior is tried, too.
        """
        begun = time.perf_counter()
        name, count = structure.name, int(np.count_nonzero(mask))
        if count < LEAST_VOXELS:
            return Unrefined(structure, f"{name} has only {count} voxels" if count else f"the mask has no {name}")
        partner = "" if side_known else self.partners.get(name, "")
        try:
            surface, points = self._surface(name, mask, affine)
        except ValueError as error:
            return Unrefined(structure, f"{name} has no usable surface: {error}")
        transform = self._place(name, points, mask, affine, partner)
        boxed = BoxedMask.of(mask)
        for part in self._organs_in(name, boxed, affine, transform):
            surface, transform = self._place_part(name, part, affine, partner, (surface, transform))
            if not transform.failure:
                break
        seconds = {"picct": time.perf_counter() - begun}
        return Aligned(structure, seconds, self.steps[name].prior, boxed, affine, surface, transform)

    def _organs_in(
        self, name: str, mask: BoxedMask, affine: np.ndarray, transform: CanonicalTransform
    ) -> Iterator[np.ndarray]:
        """Yield what may be the organ in a mask whose alignment failed or did not settle, (X, Y, Z) bool.

        With a joint model it is the largest body: a network took something else for the organ, too, which that model
        judges, since it knows of no second organ. Without one it is all but far islands, which make it too large, or
        else that body.
        """
        own = self.steps[name]
        if not own.settings.gate or not transform.failure and (transform.converged or not self.has_joint):
            return
        islands = None if self.has_joint else own.far_islands(mask, affine)
        if islands is not None:
            rest = mask.whole()
            rest[tuple(islands.voxels.T)] = False
            yield rest
        length_mm = Lengths.of(own.prior).long_mm if self.has_joint else np.inf
        body = largest_body(mask, affine, length_mm)
        if body is not None:
            yield body

    def _place_part(
        self,
        name: str,
        part: np.ndarray,
        affine: np.ndarray,
        partner: str,
        whole: tuple[trimesh.Trimesh, CanonicalTransform],
    ) -> tuple[trimesh.Trimesh, CanonicalTransform]:
        """Return surface and place of a part (X, Y, Z) bool of a mask; of the `whole` where the part is no better."""
        try:
            surface, points = self._surface(name, part, affine)
        except ValueError:
            return whole
        transform = self._place(name, points, part, affine, partner)
        better = not transform.failure and (transform.converged or bool(whole[1].failure))
        return (surface, transform) if better else whole

    def _surface(self, name: str, mask: np.ndarray, affine: np.ndarray) -> tuple[trimesh.Trimesh, np.ndarray]:
        """Return the surface of a mask, and points (N, 3) of it, world mm.

        Raises:
            ValueError: the mask has no usable surface.
        """
        surface = mask_to_surface(mask, affine)
        points, _ = sample_surface(surface, self.steps[name].settings.samples, self.seed)
        return surface, points

    def _place(
        self, name: str, points: np.ndarray, mask: np.ndarray, affine: np.ndarray, partner: str
    ) -> CanonicalTransform:
        """Align surface points (N, 3), world mm, of a mask; say in plain words what is wrong with it."""
        own = self.steps[name]
        transform = own.picct(points, self.seed)
        if partner and as_partner(own.picct, self.steps[partner].picct, points, transform, self.seed):
            turn = f"as {partner}"
        else:
            turn = better_turned(own.picct, points, transform, self.seed)
        why = ""
        if transform.failure:
            seen = [f"alignment failed: {transform.failure}", *([f"{turn} it would fit"] if turn else [])]
            why = two_organs(mask, affine, own.reconstruction.side) or unlike(name, seen, "it was not refined")
        return replace(transform, failure=why, turn=turn)
