"""What travels through the refinement chain: one stage a structure, each the one before it and what its step found.

`Aligned` → `Sampled` → `Fitted` → `Refined`. A structure that cannot go on is `Unrefined`: a reason, and nothing else.
So a step never has to ask whether what it needs is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import trimesh

from ..cases.arrays import affine_of, volume_array
from ..evidence.probabilities import Evidence
from ..geometry.affine import Similarity, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.picct import CanonicalTransform
from ..geometry.resample import WorldGrid
from ..organ.pack import Structure
from ..prior.context import Context
from ..prior.correspondence import Correspondence
from ..prior.prior import ShapePrior
from .bodies import Body, Islands
from .planes import DrawnSlices

Next = TypeVar("Next", bound="Aligned")
LINEAR, CODES, TUNED = "linear", "codes", "tuned"  # the fits of a shape, each from the one before
RADIUS = 0.5  # typical radius of a shape in the canonical frame


@dataclass(frozen=True)
class Image:
    """An image beside a label map, on a grid of its own.

    Attributes:
        values: (X, Y, Z).
        affine: (4, 4) voxel → world mm.
    """

    values: np.ndarray
    affine: np.ndarray

    @classmethod
    def of(cls, image: Any) -> Image | None:
        """Return the first channel of an image (C, X, Y, Z) or (X, Y, Z), float32, with its affine; None of None."""
        if image is None:
            return None
        return cls(np.asarray(volume_array(image, "an image")[0], np.float32), affine_of(image))


class SecondReading(Protocol):
    """Gives the probability (X, Y, Z) of a structure on a grid, NaN where it says nothing; see `SecondReader`."""

    def __call__(self, name: str, grid: WorldGrid) -> np.ndarray | None:
        """Read the image, if nobody has yet."""

    def known(self, name: str, grid: WorldGrid) -> np.ndarray | None:
        """Return None if nobody has."""


@dataclass(frozen=True)
class Seen:
    """What a voxel head sees of a structure beside its fit.

    Attributes:
        image: the case's image; None where the head knows mask and fits alone.
        label_map: (X, Y, Z), in which the other structures are.
        mask: the structure's voxels that the head corrects: the initial ones, or what an earlier reading made of them.
        second: the second reader of the image, see `second_reader`; None without.
        disputed: how far the readers of an image agree that is not followed, and not seen any more; None of others.
    """

    image: Image | None
    label_map: np.ndarray
    mask: BoxedMask
    second: SecondReading | None = None
    disputed: float | None = None


@dataclass(frozen=True)
class TrustedSamples:
    """Points that the fit shall explain, from TIM.

    Attributes:
        points_world: (N, 3) surface points, mm.
        normals_world: (N, 3) outward unit normals.
        trust: (N,) in [0, 1].
        posterior: (M,) TIM's aggregated posterior `P1` of the mask's own points (the first M of `points_world`
            before a hard selection), over its median.
        grid: of the mask, beyond which nothing is known; None for a mask that shows all there is.
    """

    points_world: np.ndarray
    normals_world: np.ndarray
    trust: np.ndarray
    posterior: np.ndarray
    grid: WorldGrid | None = None


def evaluate_mm(
    sdf_canonical: Callable[[torch.Tensor], torch.Tensor], similarity: Similarity, points_world: np.ndarray
) -> np.ndarray:
    """Return a signed distance in canonical units, under its pose, at world points (N, 3): (N,) in mm."""
    return sdf_canonical(_canonical(similarity, points_world)).cpu().numpy() / similarity.scale


def _canonical(similarity: Similarity, points_world: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(similarity.apply(points_world), dtype=torch.float32)


@dataclass
class FittedShape:
    """A fitted instance of the prior.

    Attributes:
        similarity: world → canonical, as refined by the fit.
        sdf_canonical: canonical points (N, 3) float32 tensor → signed distance (N,), canonical units.
        template_canonical: canonical points (N, 3) float32 tensor → the places (N, 3) of the template's surface to
            which the fitted deformation takes them, canonical.
        residual_mm: (N,) of the samples fitted.
        linear_mm: world points (N, 3) → signed distance (N,) in mm of the linear fit that this one is, or started from;
            None where there is none.
        figures: what the fit says of itself, plain numbers.
        codes: (A + H,) whitened: standard deviations along the modes of the training codes. Those of a linear fit are
            what the regression gives for its scores.
        warning: what a user should know of the fit; "" where there is nothing.
        codes_mm: the same of the fit by codes, from which the deform weights were tuned; None where there is none.
    """

    similarity: Similarity
    sdf_canonical: Callable[[torch.Tensor], torch.Tensor]
    template_canonical: Callable[[torch.Tensor], torch.Tensor]
    residual_mm: np.ndarray
    linear_mm: Callable[[np.ndarray], np.ndarray] | None
    figures: dict[str, float]
    codes: np.ndarray
    warning: str = ""
    codes_mm: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def witnesses(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        """World points (N, 3) → signed distance (N,) in mm of the fits: linear, by codes (if any), the one taken."""
        known = {LINEAR: self.linear_mm, CODES: self.codes_mm, TUNED: self.sdf_mm}
        return {name: fit for name, fit in known.items() if fit is not None}

    @property
    def radius_mm(self) -> float:
        """The typical radius of a shape in the pose of the fit."""
        return RADIUS / self.similarity.scale

    def sdf_mm(self, points_world: np.ndarray) -> np.ndarray:
        """Return the fitted signed distance (N,) in mm at world points (N, 3), negative inside."""
        return evaluate_mm(self.sdf_canonical, self.similarity, points_world)

    def correspondence(self, prior: ShapePrior, points_world: np.ndarray) -> Correspondence:
        """Return where world points (N, 3), mm, lie on the template of the prior that was fitted."""
        return Correspondence.at(prior, self.template_canonical(_canonical(self.similarity, points_world)))


@dataclass(frozen=True)
class Unrefined:
    """A structure that keeps its initial voxels, or all but far islands.

    Attributes:
        structure: from the organ pack.
        failure: why; "" where islands go, and a warning of the quality says why no more was done.
        seconds: stage → seconds.
        islands: indices (N, 3) of the voxels that go; None where all are kept.
        quality: plain JSON values; there are some only where islands go.
    """

    structure: Structure
    failure: str
    seconds: dict[str, float] = field(default_factory=dict)
    islands: np.ndarray | None = None
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The structure's name."""
        return self.structure.name

    # what a refined structure has, so that results can be gone through alike

    @property
    def mesh(self) -> None:
        """There is none."""

    @property
    def correspondence(self) -> None:
        """There is none."""

    @property
    def uncertainty_mm(self) -> None:
        """There is none."""


@dataclass(frozen=True)
class Whole:
    """The mask of a structure before it was taken inward, see `oversize` and `inward`.

    Attributes:
        mask: its voxels in the initial label map.
        inward_mm: by how much it was taken inward since it is far too large; 0 where only the run asked for it.
        others: bodies comparable to the one that was taken inward, which went.
        asked_mm: by how much the run asked to take it inward, negative for outward.
    """

    mask: BoxedMask
    inward_mm: float = 0.0
    others: tuple[Body, ...] = ()
    asked_mm: float = 0.0


@dataclass(frozen=True)
class Aligned:
    """A structure whose surface was found, and its place in the canonical frame.

    Attributes:
        structure: from the organ pack.
        seconds: stage → seconds.
        prior: the structure's shape prior.
        mask: its voxels in the initial label map, or what remains of them, see `whole`.
        affine: (4, 4) voxel → world mm of the mask.
        surface: closed surface of the mask, world mm.
        transform: PICCT's result.
        whole: all its voxels, where the mask was taken inward or outward and only what came of it is refined.
        unmoved: why it was not, though the run asked for it; "" for most.
    """

    structure: Structure
    seconds: dict[str, float]
    prior: ShapePrior
    mask: BoxedMask
    affine: np.ndarray
    surface: trimesh.Trimesh
    transform: CanonicalTransform
    whole: Whole | None = field(default=None, kw_only=True)
    unmoved: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """The structure's name."""
        return self.structure.name

    @property
    def failure(self) -> str:
        """Why the alignment cannot be trusted, and what to check; "" where it can."""
        return self.transform.failure

    def then(self, stage: type[Next], **found: Any) -> Next:
        """Return the next stage: all that is known, and what was found."""
        known = {one.name: getattr(self, one.name) for one in fields(self)}
        return stage(**(known | found))

    def stopped(self, failure: str, islands: Islands | None = None) -> Unrefined:
        """Return the structure as one that keeps its initial voxels, but for islands where there are some."""
        if islands is None:
            return Unrefined(self.structure, failure, self.seconds)
        before_ml = (self.whole or self).mask.count * voxel_volume_mm3(self.affine) / 1000.0
        gone_ml = islands.volume_mm3 / 1000.0
        quality = {
            "warnings": [f"{failure}; {islands}, far from the rest, removed"],
            "volume_ml": {"initial": round(before_ml, 4), "refined": round(before_ml - gone_ml, 4)},
            "changed_voxels": len(islands.voxels),
            "removed_ml": round(gone_ml, 4),
            "added_ml": 0.0,
        }
        return Unrefined(self.structure, "", self.seconds, islands.voxels, quality)


@dataclass(frozen=True)
class Sampled(Aligned):
    """An aligned structure with the points that the fit shall explain.

    Attributes:
        samples: TIM's points.
        context: the pack's joint model fitted to all structures of the case, where the structure uses it.
        evidence: probabilities of the network that made the mask, where there are such.
        seen: what the pack's voxel head sees, where it has one.
        drawn: the slices in which it was drawn, where the mask was filled between such; None of a whole mask.
    """

    samples: TrustedSamples
    context: Context | None
    evidence: Evidence | None
    seen: Seen | None
    drawn: DrawnSlices | None

    def stopped(self, failure: str, islands: Islands | None = None) -> Unrefined:
        """Return the structure as one that keeps its initial voxels; of drawn slices also islands, which are drawn."""
        if self.drawn is None:
            return super().stopped(failure, islands)
        return super().stopped(f"{failure}; {self.drawn.unfitted}")


@dataclass(frozen=True)
class Fitted(Sampled):
    """A sampled structure with the instance of its prior that was fitted.

    Attributes:
        fit: the instance.
    """

    fit: FittedShape


@dataclass(frozen=True)
class Refined(Fitted):
    """A structure whose part of the label map was refined.

    Attributes:
        mesh: the refined surface, world mm; None where nothing of the structure is left.
        correspondence: where the mesh's vertices lie on the template; None without a mesh.
        quality: plain JSON values: figures and the decision on every region.
        uncertainty_mm: (V,) of the mesh's vertices, see `uncertainty`; None where it is not asked for, and where the
            fit is doubtful.
    """

    mesh: trimesh.Trimesh | None
    correspondence: Correspondence | None
    quality: dict[str, Any]
    uncertainty_mm: np.ndarray | None = None
