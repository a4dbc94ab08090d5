"""The refiner: all that refining masks of one organ takes, read once, and its four steps on arrays.

`align` (PICCT) → `sample` (TIM) → `fit` (latent finetuning) → `reconstruct`; `refine` is the four in one. The
dictionary transforms in `transforms` are thin faces of these. Between the steps travels a list with one stage for each
structure of the organ pack, see `stages`. A refiner holds no state between calls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import trimesh

from ..evidence.head import VoxelHead
from ..evidence.probabilities import Evidence, evidence_from_probabilities
from ..geometry.boxed import BoxedMask
from ..geometry.resample import WorldGrid
from ..organ.pack import BLIND_FILE, EVIDENCE_FILE, JOINT_FILE, OrganPack, Structure
from ..organ.places import CALIBRATION_FILES, QUALITY_FILES
from ..prior.context import Context, fit_context
from ..prior.joint import JointShapeModel
from ..prior.prior import ShapePrior
from ..prior.volume import UsualVolume
from ..quality.verdict import Judge
from ..unet.segmenter import Segmenter
from .bodies import Islands
from .draw_mesh import MeshRequest
from .drawing import Drawing
from .inward import asked_words, moved_inward, names_of, read_inward
from .mending import Mended, mend
from .oversize import of_whole, taken_in, with_moved
from .placing import Placing
from .results import AS_USUAL, Reconstructed, results_of
from .second_reader import SecondReader
from .settings import RefineSettings
from .side_by_side import ORGAN_SHARE, side_by_side
from .side_check import Leave, SidesFound, in_place, mend_sides, partners
from .sparse import contour_samples
from .stages import Aligned, Fitted, FittedShape, Image, Refined, Sampled, Seen, TrustedSamples, Unrefined, Whole
from .steps import steps_of

logger = logging.getLogger(__name__)


class Refiner:
    """Refines label maps of one organ.

    Args:
        organ: an organ pack, its name, or its path.
        preset: see `configs/presets.yaml`.
        device: where priors, fields, voxel heads and the U-Net are evaluated.
        seed: of the sampling and of the fit.
        see: whether the pack's voxel heads are asked, where it has such.
        inward_mm: by how much masks are taken inward before they are refined, see `inward.read_inward`.
        second: whether the pack's U-Net, if it has one, reads images as well; not where it has made the masks.

    Attributes:
        pack: the organ pack.
        settings: structure name → its settings.
        inward_mm: shape name → by how much its masks are taken inward; {} where none is.
        priors: structure name → its shape prior; structures may share one.
        steps: shape name → its steps; the shapes are the structures, and both sides of paired ones.
        partners: structure name → the same of the patient's other side, where that has a prior of its own.
        joint: the joint model of the pack's structures; None without one, or where no structure uses it.
        head: the pack's voxel head that reads images; None without such.
        blind: its voxel head for masks alone; None without such.
        segmenter: the U-Net that reads images beside the head; None without such.
        judge: predicts the quality of masks; None where the bundle has no predictor.

    Raises:
        OrganError: there is no such organ pack, or its U-Net cannot be read.
        ValueError: there is no such preset, or the pack's joint model or voxel head lacks one of its structures.
        FileNotFoundError: a prior of the pack has not been trained.
    """

    def __init__(
        self,
        organ: str | Path | OrganPack = "hippocampus",
        preset: str = "default",
        device: str | torch.device = "cpu",
        seed: int = 0,
        see: bool = True,
        inward_mm: object = "",
        second: bool = True,
    ) -> None:
        self.pack = organ if isinstance(organ, OrganPack) else OrganPack.load(organ)
        self.settings = RefineSettings.of_pack(self.pack, preset)
        self.seed = seed
        asked = read_inward(inward_mm, names_of(self.pack))
        shapes = [(own.name, shape.name) for own in self.pack.structures for shape in (own, *own.pair)]
        self.inward_mm = {shape: asked.get(shape, asked.get(name, 0.0)) for name, shape in shapes if asked}
        read = {path: ShapePrior.load(path, device) for path in dict.fromkeys(s.prior for s in self.pack.structures)}
        self.priors = {s.name: read[s.prior] for s in self.pack.structures}
        joint = self.pack.folder / JOINT_FILE
        wanted = any(own.context for own in self.settings.values()) and joint.is_file()
        self.joint = JointShapeModel.load(joint) if wanted else None
        self.judge = Judge.of(self.pack.name, QUALITY_FILES, self.pack.folder, CALIBRATION_FILES, self.pack.readers)
        unknown = [name for name in self.settings if self.joint is not None and name not in self.joint.parts]
        if unknown:
            raise ValueError(f"{joint} does not know {', '.join(unknown)}: train it anew (python -m scripts joint)")
        self.head, self.blind = (self._head(name, device) if see else None for name in (EVIDENCE_FILE, BLIND_FILE))
        self.segmenter = Segmenter.of(self.pack, device) if second and self.head is not None else None
        self.partners = partners(self.pack)
        self.steps = steps_of(self.pack, self.settings, self.priors, self.head, self.blind, device)

    def _head(self, name: str, device: str | torch.device) -> VoxelHead | None:
        """Return a voxel head of the pack; None without such."""
        file = self.pack.folder / name
        if not file.is_file():
            return None
        head = VoxelHead.load(file, device)
        unknown = [own.name for own in self.pack.structures if own.name not in head.structures]
        if unknown:
            raise ValueError(f"{file} does not know {', '.join(unknown)}: train it anew (python -m scripts evidence)")
        return head

    def mend_sides(
        self,
        label_map: np.ndarray,
        affine: np.ndarray,
        fix: bool = False,
        known: Collection[int] | None = None,
        drawn: bool = False,
    ) -> SidesFound:
        """Look whether labels of left and right are exchanged, or pieces of them, see `side_check`."""
        leave = Leave.ALL if drawn else Leave.BESIDE_PARTNER if self.joint is not None else Leave.NONE
        return mend_sides(label_map, affine, self.pack, self.steps, self.seed, fix, known, leave)

    def align(self, label_map: np.ndarray, affine: np.ndarray) -> list[Aligned | Unrefined]:
        """Find each structure's surface and its place in the canonical frame (METHOD 1).

        Args:
            label_map: (X, Y, Z), the pack's label values.
            affine: (4, 4) voxel → world mm, RAS+.

        Returns:
            One stage a structure of the pack, in its order; of a paired structure, one a side where there are both.
        """
        sure = self._sure(label_map, affine)

        def place(shape: tuple[Structure, np.ndarray]) -> Aligned | Unrefined:
            placed = self._place(*shape, affine, sure)
            return self._moved(placed, label_map, sure) if isinstance(placed, Aligned) and self.inward_mm else placed

        return side_by_side(place, self.pack.shapes(label_map, affine), label_map.size // ORGAN_SHARE)

    def _moved(self, one: Aligned, label_map: np.ndarray, sure: set[int]) -> Aligned:
        """Take a mask inward, as asked for; it stays where nothing would be left of it that can be placed."""
        asked_mm = self.inward_mm.get(one.name, 0.0)
        if not asked_mm or not (self.steps[one.name].settings.fusion and self.steps[one.name].settings.gate):
            return one
        moved = moved_inward(one.mask, one.affine, asked_mm, label_map)
        placed = moved and self._place(one.structure, moved.whole(), one.affine, sure)
        if not isinstance(placed, Aligned) or placed.failure:
            return replace(one, unmoved=f"not {asked_words(asked_mm)}: what is left does not look like {one.name}")
        return self._in_place_of(one, placed, Whole(one.mask, asked_mm=asked_mm))

    def _sure(self, label_map: np.ndarray, affine: np.ndarray) -> set[int]:
        """Return the labels that are known to be of the right side."""
        return in_place(label_map, affine, self.pack) if self.partners else set()

    def _place(self, structure: Structure, mask: np.ndarray, affine: np.ndarray, sure: set[int]) -> Aligned | Unrefined:
        placing = Placing(self.steps, self.partners, self.joint is not None, self.seed)
        return placing(structure, mask, affine, sure.issuperset(structure.labels))

    def sample(
        self,
        aligned: Sequence[Aligned | Unrefined],
        label_map: np.ndarray,
        affine: np.ndarray,
        image: Image | None = None,
        prob: np.ndarray | None = None,
        drawn: Drawing | None = None,
        enlarged: bool = False,
    ) -> list[Sampled | Unrefined]:
        """Sample each surface with a trust a point; fit the joint model, and read probabilities for it.

        A mask too broken to be aligned by itself is placed by the joint model, where that was fitted; otherwise only
        islands far from the rest of it go.

        Args:
            aligned: what `align` returned for this label map.
            label_map, affine: see `align`.
            image: on any grid; read by the pack's voxel head, where it has such, and by the second reader.
            prob: class probabilities (C, X, Y, Z) on the label map's grid, background first: beside an image, or in
                place of a voxel head for masks alone.
            drawn: what was drawn of a filled label map; then the contours alone are sampled, and nothing else is read.
            enlarged: whether disease may have enlarged the organs; if not, far too large masks go inward (`oversize`).

        Raises:
            ValueError: the number of classes is not that of the pack's labels and the background.
        """
        if drawn is not None:
            return [self._sample_drawn(one, label_map, affine, drawn) for one in aligned]
        reads_prob = prob is not None and (image is None or self.head is None)  # which says itself how large it is
        if not enlarged and not reads_prob:
            aligned = side_by_side(lambda one: self._smaller(one, label_map), aligned, label_map.size // ORGAN_SHARE)
        label_map = with_moved(aligned, label_map)
        begun = time.perf_counter()
        context = self._context(aligned)
        fitted = time.perf_counter()
        evidence = None if prob is None else evidence_from_probabilities(prob, label_map, affine, self.pack)
        shared = {"context": (fitted - begun) / len(aligned)}
        mended: dict[str, Mended] = {}
        if image is not None and self.head is not None:
            by_name = {one.name: one for one in aligned}

            def alone(name: str, own: Mended | None = None) -> Sampled | Unrefined:
                return self._sample(by_name[name], context, None, shared, own)

            first = [alone(name) for name in by_name]
            begun = time.perf_counter()
            second = SecondReader(self.segmenter, image, aligned, label_map, affine) if self.segmenter else None
            mended = mend(first, label_map, affine, image, self.steps, alone, second)
            context = self._context(aligned, {name: own.surface for name, own in mended.items()}) if mended else context
            shared["image"] = (time.perf_counter() - begun) / len(aligned)
        elif self.blind is not None and evidence is None:
            return [self._blind(self._sample(one, context, None, shared), label_map) for one in aligned]
        return [self._sample(one, context, evidence, shared, mended.get(one.name)) for one in aligned]

    def _smaller(self, one: Aligned | Unrefined, label_map: np.ndarray) -> Aligned | Unrefined:
        """Take a mask that is far too large inward, see `oversize`."""
        own = self.steps[one.name]
        if isinstance(one, Unrefined) or not (own.settings.fusion and own.settings.gate):
            return one
        if one.whole is not None and one.whole.asked_mm < 0:  # it is as large as the run wants it
            return one
        found = taken_in(one.mask, one.affine, UsualVolume.from_card(one.prior.card), own.reconstruction.side)
        if found is None:
            return one
        remains, whole = found
        placed = self._place(one.structure, remains.whole(), one.affine, self._sure(label_map, one.affine))
        if isinstance(placed, Unrefined) or placed.failure:
            return one
        if one.whole is not None:  # it was moved before, as asked for
            whole = replace(whole, mask=one.whole.mask, asked_mm=one.whole.asked_mm)
        return self._in_place_of(one, placed, whole)

    @staticmethod
    def _in_place_of(one: Aligned, placed: Aligned, whole: Whole) -> Aligned:
        seconds = {name: spent + placed.seconds.get(name, 0.0) for name, spent in one.seconds.items()}
        return replace(placed, seconds=seconds, whole=whole, unmoved=one.unmoved)

    def _blind(self, sampled: Sampled | Unrefined, label_map: np.ndarray) -> Sampled | Unrefined:
        """Let the voxel head for masks alone see a structure of a label map."""
        if isinstance(sampled, Unrefined) or self.steps[sampled.name].settings.method == "paper":
            return sampled
        return replace(sampled, seen=Seen(None, label_map, sampled.mask))

    def _sample(
        self,
        aligned: Aligned | Unrefined,
        context: Context | None,
        evidence: Evidence | None,
        seconds: dict[str, float],
        mended: Mended | None = None,
    ) -> Sampled | Unrefined:
        """Sample one structure; what an image made of it at first, where there is that, see `mending`."""
        if isinstance(aligned, Unrefined):
            return aligned
        name, own = aligned.name, self.steps[aligned.name].settings
        context = context if own.context else None
        evidence = evidence if own.method != "paper" else None
        if aligned.failure:
            found = context and context.transform(name, aligned.prior.anchor_points.cpu().numpy())
            if not found:
                return aligned.stopped(aligned.failure, self._islands(aligned, context))
            aligned = replace(aligned, transform=replace(found, turn=aligned.transform.turn))
        if mended is not None:
            aligned = replace(aligned, transform=replace(aligned.transform, similarity=mended.similarity))
        begun = time.perf_counter()
        surface, seen = (aligned.surface, None) if mended is None else (mended.surface, mended.seen)
        told = evidence if seen is None or seen.image is None else None
        known = aligned.transform, aligned.prior, name, context, told
        samples = _with_grid(self.steps[name].tim(surface, *known, self.seed), aligned)
        seconds = {**aligned.seconds, **seconds, "tim": time.perf_counter() - begun}
        more = {"context": context, "evidence": evidence, "seen": seen, "drawn": None}
        return aligned.then(Sampled, samples=samples, seconds=seconds, **more)

    def _sample_drawn(
        self, aligned: Aligned | Unrefined, label_map: np.ndarray, affine: np.ndarray, drawn: Drawing
    ) -> Sampled | Unrefined:
        """Sample the drawn contours of one structure of a filled label map."""
        if isinstance(aligned, Unrefined):
            mask = aligned.structure.mask(label_map, affine)
            if not mask.any():
                return aligned
            return replace(aligned, failure=f"{aligned.failure}; {drawn.slices_of(BoxedMask.of(mask)).unfitted}")
        begun, slices = time.perf_counter(), drawn.slices_of(aligned.mask)
        if aligned.failure or not slices.enough:
            return aligned.stopped("; ".join(filter(None, (aligned.failure, slices.unfitted))))
        count = self.steps[aligned.name].settings.samples
        samples = _with_grid(contour_samples(slices, aligned.surface, aligned.affine, count, self.seed), aligned)
        seconds = {**aligned.seconds, "tim": time.perf_counter() - begun}
        found = {"context": None, "evidence": None, "seen": None, "drawn": slices}
        return aligned.then(Sampled, samples=samples, seconds=seconds, **found)

    def _islands(self, aligned: Aligned, context: Context | None) -> Islands | None:
        """Return what goes of a structure that cannot be refined; nothing where the other structures speak for it."""
        own = self.steps[aligned.name]
        mask = (aligned.whole or aligned).mask
        return own.far_islands(mask, aligned.affine) if own.settings.gate and context is None else None

    def _context(
        self,
        aligned: Sequence[Aligned | Unrefined],
        mended: Mapping[str, trimesh.Trimesh] = MappingProxyType({}),
    ) -> Context | None:
        """Fit the joint model to all surfaces, or to the mended ones where there are such."""
        surfaces = {one.name: mended.get(one.name, one.surface) for one in aligned if isinstance(one, Aligned)}
        if self.joint is None or not surfaces:
            return None
        return fit_context(surfaces, self.joint)

    def fit(self, sampled: Sequence[Sampled | Unrefined]) -> list[Fitted | Unrefined]:
        """Fit each structure's prior to its samples (Eq. 53), those of the same sizes and settings in one batch."""
        batches: dict[tuple[Hashable, ...], list[Sampled]] = {}
        for one in sampled:
            if isinstance(one, Sampled):
                key = self.steps[one.name].finetune.batch_key(one.samples, one.prior)
                batches.setdefault(key, []).append(one)
        found = {one.name: one for batch in batches.values() for one in self._fit_batch(batch)}
        return [one if isinstance(one, Unrefined) else found[one.name] for one in sampled]

    def _fit_batch(self, batch: Sequence[Sampled]) -> list[Fitted | Unrefined]:
        begun = time.perf_counter()
        known = [(one.samples, one.transform, one.prior) for one in batch]
        try:
            fits: Sequence[FittedShape] = self.steps[batch[0].name].finetune.fit_batch(known, self.seed)
        except ValueError as error:
            if len(batch) > 1:  # one after another, to find out whose failure it is
                return [fitted for one in batch for fitted in self._fit_batch([one])]
            return [batch[0].stopped(f"the fit failed: {error}", self._islands(batch[0], batch[0].context))]
        spent = (time.perf_counter() - begun) / len(batch)
        return [
            one.then(Fitted, fit=fit, seconds={**one.seconds, "finetune": spent})
            for one, fit in zip(batch, fits, strict=True)
        ]

    def reconstruct_each(self, fitted: Sequence[Fitted | Unrefined]) -> list[Reconstructed | Unrefined]:
        """Reconstruct each fitted structure, as `fit` returned it, by itself (METHOD 5)."""
        voxels = max((one.mask.part.size for one in fitted if isinstance(one, Fitted)), default=0)
        return side_by_side(self._reconstruct_one, fitted, voxels)

    def _reconstruct_one(self, one: Fitted | Unrefined) -> Reconstructed | Unrefined:
        if isinstance(one, Unrefined):
            return one
        begun = time.perf_counter()
        try:
            part = self.steps[one.name].reconstruction(one)
        except ValueError as error:
            return one.stopped(f"not reconstructed: {error}", self._islands(one, one.context))
        one, part = of_whole(one, part)
        if one.unmoved:
            part = replace(part, warnings=(one.unmoved, *part.warnings))
        seconds = {**one.seconds, "reconstruct": time.perf_counter() - begun}
        part, judge = part.trimmed(one.mask, one.affine), self.judge if one.drawn is None else None
        return Reconstructed(replace(one, seconds=seconds), part, judge)

    def reconstruct(
        self,
        fitted: Sequence[Fitted | Unrefined],
        label_map: np.ndarray,
        affine: np.ndarray,
        asked: MeshRequest = AS_USUAL,
    ) -> tuple[np.ndarray, list[Refined | Unrefined]]:
        """Write the fitted shapes into a label map, and draw their meshes (METHOD 5); see `results_of`.

        Args:
            fitted: what `fit` returned for this label map.
            label_map, affine: see `align`.
            asked: of the meshes.
        """
        return results_of(self.reconstruct_each(fitted), label_map, affine, asked)

    def refine(
        self,
        label_map: np.ndarray,
        affine: np.ndarray,
        image: Image | None = None,
        prob: np.ndarray | None = None,
        enlarged: bool = False,
    ) -> tuple[np.ndarray, list[Refined | Unrefined]]:
        """Take a label map through all four steps; see these."""
        aligned = self.align(label_map, affine)
        sampled = self.sample(aligned, label_map, affine, image, prob, enlarged=enlarged)
        return self.reconstruct(self.fit(sampled), label_map, affine)


def _with_grid(samples: TrustedSamples, aligned: Aligned) -> TrustedSamples:
    """Return the samples with the grid of the mask that they are of."""
    x, y, z = aligned.mask.shape
    return replace(samples, grid=WorldGrid(aligned.affine, (x, y, z)))
