"""The refinement chain as MONAI dictionary transforms: PICCTd → TIMSampled → LatentFinetuned → ReconstructShaped.

Beside `pred`, the label map (1, X, Y, Z) on the original grid, travels `pred_shapes`: a list with one `ShapeCase` a
structure of the organ pack, which each step enriches. A structure that cannot be refined carries its reason in
`failure` and keeps its initial voxels. Transforms hold no state between calls. `RefineShaped` is the four in one.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from ..cases.io import affine_of, label_array
from ..evidence.ensemble import EvidenceEnsemble
from ..evidence.reading import Evidence, evidence_from_image, evidence_from_probabilities
from ..geometry.picct import PICCT
from ..geometry.surface import mask_to_surface, sample_surface
from ..organ.pack import EVIDENCE_FILE, JOINT_FILE, OrganPack
from ..prior.context import Context, fit_context_to_surfaces
from ..prior.joint import JointShapeModel
from ..prior.prior import ShapePrior
from .finetune import LatentFinetune
from .merge import describe, merge
from .reconstruct import Reconstruction, ReconstructShape
from .settings import RefineSettings
from .shape_case import FittedShape, ShapeCase
from .tim import TIMSample

SHAPES = "_shapes"
LEAST_VOXELS = 8


class PICCTd(MapTransform):
    """Finds each structure's surface and its canonical frame (METHOD 1); starts the list of `ShapeCase`.

    Args:
        keys: the label map.
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        device: where priors live.
        seed: of the sampling.
        allow_missing_keys: see MapTransform.

    Raises:
        FileNotFoundError: a prior of the pack has not been trained.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        organ: str | Path = "hippocampus",
        preset: str = "default",
        device: str | torch.device = "cpu",
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.pack = OrganPack.load(organ)
        self.settings = _settings(self.pack, preset)
        self.seed = seed
        loaded = {s.prior: ShapePrior.load(s.prior, device) for s in self.pack.structures}
        self.priors = {s.name: loaded[s.prior] for s in self.pack.structures}
        self.picct = {
            s.name: PICCT(
                self.priors[s.name].anchor_points.cpu().numpy(),
                self.priors[s.name].scale_mm,
                n_points=self.settings[s.name].alignment_points,
                mirror=s.mirror,
            )
            for s in self.pack.structures
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add `<key>_shapes`."""
        result = dict(data)
        for key in self.key_iterator(result):
            label_map, affine = label_array(result[key])
            masks = self.pack.masks(label_map, affine)
            result[f"{key}{SHAPES}"] = [self._align(name, mask, affine) for name, mask in masks.items()]
        return result

    def _align(self, name: str, mask: np.ndarray, affine: np.ndarray) -> ShapeCase:
        begun = time.perf_counter()
        case = ShapeCase(self.pack.structure(name), prior=self.priors[name])
        if int(mask.sum()) < LEAST_VOXELS:
            case.failure = f"the mask has no {name}" if not mask.any() else f"{name} has only {int(mask.sum())} voxels"
            return case
        try:
            case.surface = mask_to_surface(mask, affine)
            points, _ = sample_surface(case.surface, self.settings[name].samples, self.seed)
        except ValueError as error:
            case.surface, case.failure = None, f"{name} has no usable surface: {error}"
            return case
        case.transform = self.picct[name](points, self.seed)
        case.failure = f"alignment failed: {case.transform.failure}" if case.transform.failure else ""
        case.seconds["picct"] = time.perf_counter() - begun
        return case


class TIMSampled(MapTransform):
    """Samples each surface with a trust a point; fits the pack's joint model and reads the evidence for it.

    Args:
        keys: the label map.
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        image_key: an image on any grid; read by the pack's evidence networks, where the pack has some.
        prob_key: class probabilities (C, X, Y, Z) on the label map's grid, background first; used where no such network
            has read an image, or where what it read is set aside.
        device: where the evidence networks run.
        seed: of the sampling.
        allow_missing_keys: see MapTransform.

    Raises:
        ValueError: the pack's evidence networks were trained for other structures.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        organ: str | Path = "hippocampus",
        preset: str = "default",
        image_key: str | None = None,
        prob_key: str | None = "prob",
        device: str | torch.device = "cpu",
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.pack = OrganPack.load(organ)
        self.settings = RefineSettings.load(preset, self.pack)
        self.image_key = image_key
        self.prob_key = prob_key
        self.seed = seed
        joint, network = self.pack.folder / JOINT_FILE, self.pack.folder / EVIDENCE_FILE
        self.joint = JointShapeModel.load(joint) if self.settings.context and joint.is_file() else None
        wanted = self.joint and image_key and network.is_file()
        self.network = EvidenceEnsemble.load(network, device) if wanted else None
        if self.network is not None and self.network.structures != [s.name for s in self.pack.structures]:
            raise ValueError(
                f"{network} knows {', '.join(self.network.structures)}, in this order, but the pack's structures are "
                f"{', '.join(s.name for s in self.pack.structures)}: train it anew (python -m scripts evidence)"
            )
        self.tim = {
            name: TIMSample(own.samples, own.keep_share, soft=own.method != "paper")
            for name, own in _settings(self.pack, preset).items()
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fill context, evidence and samples of `<key>_shapes`."""
        result = dict(data)
        for key in self.key_iterator(result):
            cases: list[ShapeCase] = result[f"{key}{SHAPES}"]
            begun = time.perf_counter()
            context = self._context(cases)
            fitted = time.perf_counter()
            evidence = self._evidence(result, key, context)
            seen = time.perf_counter()
            for case in cases:
                if context is not None and case.transform is not None and case.transform.failure and case.prior:
                    found = context.transform(case.name, case.prior.anchor_points.cpu().numpy())
                    if found is not None:
                        case.transform, case.failure = found, ""
                if case.failure or case.surface is None or case.transform is None or case.prior is None:
                    continue
                started = time.perf_counter()
                case.context, case.evidence = context, evidence
                case.samples = self.tim[case.name](
                    case.surface, case.transform, case.prior, case.name, context, evidence, self.seed
                )
                case.seconds["context"] = (fitted - begun) / len(cases)
                case.seconds["evidence"] = (seen - fitted) / len(cases)
                case.seconds["tim"] = time.perf_counter() - started
        return result

    def _context(self, cases: list[ShapeCase]) -> Context | None:
        surfaces = {case.name: case.surface for case in cases if case.surface is not None}
        if self.joint is None or not surfaces:
            return None
        return fit_context_to_surfaces(surfaces, [case.name for case in cases], self.joint)

    def _evidence(self, data: Mapping[Hashable, Any], key: Hashable, context: Context | None) -> Evidence | None:
        if self.settings.method == "paper":
            return None
        label_map, affine = label_array(data[key])
        own = None
        if self.prob_key and data.get(self.prob_key) is not None:
            prob = np.asarray(torch.as_tensor(data[self.prob_key]).cpu().numpy(), np.float32)
            own = evidence_from_probabilities(prob, label_map, affine, self.pack)
        image = data.get(self.image_key) if self.image_key else None
        if self.network is None or context is None or image is None:
            return own
        values = torch.as_tensor(image)[0].cpu().numpy()
        seen = evidence_from_image(values, affine_of(image), label_map, affine, self.pack, context, self.network)
        return replace(seen, own=own)


class LatentFinetuned(MapTransform):
    """Fits each structure's prior to its samples (Eq. 53), those of the same sizes and settings in one batch.

    Args:
        keys: the label map.
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        device: where the field is evaluated.
        seed: of the fit.
        allow_missing_keys: see MapTransform.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        organ: str | Path = "hippocampus",
        preset: str = "default",
        device: str | torch.device = "cpu",
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        settings = _settings(OrganPack.load(organ), preset)
        self.fits = {name: LatentFinetune(own, device) for name, own in settings.items()}
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fill the fitted shapes of `<key>_shapes`."""
        result = dict(data)
        for key in self.key_iterator(result):
            batches: dict[tuple[Hashable, ...], list[ShapeCase]] = {}
            for case in result[f"{key}{SHAPES}"]:
                if not case.failure:
                    batches.setdefault(self.fits[case.name].shared(case.samples, case.prior), []).append(case)
            for batch in batches.values():
                self._fit(batch)
        return result

    def _fit(self, batch: list[ShapeCase]) -> None:
        begun = time.perf_counter()
        known = [(case.samples, case.transform, case.prior) for case in batch]
        try:
            found: Sequence[FittedShape | None] = self.fits[batch[0].name].together(known, self.seed)  # type: ignore
        except ValueError as error:
            if len(batch) > 1:
                for case in batch:  # one after another, to find out whose failure it is
                    self._fit([case])
                return
            batch[0].failure, found = f"the fit failed: {error}", [None]
        for case, fitted in zip(batch, found, strict=True):
            case.fitted = fitted
            case.seconds["finetune"] = (time.perf_counter() - begun) / len(batch)


class ReconstructShaped(MapTransform):
    """Writes the refined label map and the meshes from the fitted shapes (METHOD 5).

    Labels do not overlap: a voxel that a structure keeps stays its own; a voxel that two structures would add goes to
    the one whose surface it lies deeper in. New voxels of a structure of several labels take the nearest part's.

    Args:
        keys: the label map.
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        allow_missing_keys: see MapTransform.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        organ: str | Path = "hippocampus",
        preset: str = "default",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.pack = OrganPack.load(organ)
        settings = _settings(self.pack, preset)
        self.reconstruct = {name: ReconstructShape(own) for name, own in settings.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label map and fill meshes, correspondence and quality of `<key>_shapes`."""
        result = dict(data)
        for key in self.key_iterator(result):
            initial = result[key]
            label_map, affine = label_array(initial)
            cases: list[ShapeCase] = result[f"{key}{SHAPES}"]
            masks = self.pack.masks(label_map, affine)
            parts: list[tuple[ShapeCase, Reconstruction]] = []
            for case in cases:
                if case.failure:
                    continue
                begun = time.perf_counter()
                try:
                    parts.append((case, self.reconstruct[case.name](masks[case.name], affine, case)))
                except ValueError as error:
                    case.failure = f"not reconstructed: {error}"
                    continue
                drawn = time.perf_counter()
                case.seconds["reconstruct"] = drawn - begun
                if case.mesh is not None and case.fitted is not None and case.prior is not None:
                    case.correspondence = case.fitted.correspondence(case.prior, np.asarray(case.mesh.vertices))
                    case.seconds["correspondence"] = time.perf_counter() - drawn
            refined, after = merge(label_map, affine, masks, parts)
            for case, part in parts:
                case.quality = describe(case, part, masks[case.name], after[case.name], affine)
            pred = torch.as_tensor(refined[None].astype(label_map.dtype)).to(torch.as_tensor(initial).device)
            meta = {**getattr(initial, "meta", {}), "affine": torch.as_tensor(affine)}
            result[key] = MetaTensor(pred.to(initial.dtype), meta=meta)
        return result


class RefineShape(Transform):
    """The whole chain on one label map, for use outside dictionaries.

    Args:
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        device: where priors, fields and the evidence networks are evaluated.
        seed: of the sampling and of the fit.

    Raises:
        OrganError: there is no such organ pack.
        FileNotFoundError: a prior of the pack has not been trained.
    """

    def __init__(
        self,
        organ: str | Path = "hippocampus",
        preset: str = "default",
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        self.steps = (
            PICCTd("pred", organ, preset, device, seed),
            TIMSampled("pred", organ, preset, "image", "prob", device, seed),
            LatentFinetuned("pred", organ, preset, device, seed),
            ReconstructShaped("pred", organ, preset),
        )

    def __call__(
        self, label_map: torch.Tensor, image: torch.Tensor | None = None, prob: torch.Tensor | None = None
    ) -> tuple[MetaTensor, list[ShapeCase]]:
        """Refine a label map.

        Args:
            label_map: (1, X, Y, Z), the pack's label values; a MetaTensor's affine says where it lies, voxel → world
                mm, RAS+ (a plain tensor's voxels are 1 mm cubes).
            image: (1, X', Y', Z') with an affine, on any grid; read by the pack's evidence networks, where it has some.
            prob: class probabilities (C, X, Y, Z) on the label map's grid, background first; used where no such network
                has read an image, or where what it read is set aside.

        Returns:
            The refined label map, with the shape, data type, meta data and device of the given one; and one `ShapeCase`
            a structure with its mesh (world mm), its quality figures, or the reason why it was left as it is.
        """
        data: dict[Hashable, Any] = {"pred": label_map, "image": image, "prob": prob}
        for step in self.steps:
            data = step(data)
        return data["pred"], data[f"pred{SHAPES}"]


class RefineShaped(MapTransform):
    """The four transforms in one: label map (1, X, Y, Z) → refined label map, and `<key>_shapes` beside it.

    For postprocessing of any model, after its prediction is back on the image's own grid (`Invertd`) and is a label map
    (`AsDiscreted` with `argmax`). See `RefineShape` for shapes and frames; nothing is resampled.

    Args:
        keys: the label map.
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        image_key: an image on any grid, as evidence.
        prob_key: class probabilities on the label map's grid, background first; used where no such network has read an
            image, or where what it read is set aside.
        device: where priors, fields and the evidence networks are evaluated.
        seed: of the sampling and of the fit.
        allow_missing_keys: see MapTransform.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        organ: str | Path = "hippocampus",
        preset: str = "default",
        image_key: str | None = None,
        prob_key: str | None = "prob",
        device: str | torch.device = "cpu",
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.prob_key = prob_key
        self.refine = RefineShape(organ, preset, device, seed)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label map and add `<key>_shapes`."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result.get(self.image_key) if self.image_key else None
            prob = result.get(self.prob_key) if self.prob_key else None
            result[key], result[f"{key}{SHAPES}"] = self.refine(result[key], image, prob)
        return result


def _settings(pack: OrganPack, preset: str) -> dict[str, RefineSettings]:
    """Return the settings of each of a pack's structures, by name."""
    return {s.name: RefineSettings.load(preset, pack, s) for s in pack.structures}


PICCTD = PICCTDict = PICCTd
TIMSampleD = TIMSampleDict = TIMSampled
LatentFinetuneD = LatentFinetuneDict = LatentFinetuned
ReconstructShapeD = ReconstructShapeDict = ReconstructShaped
RefineShapeD = RefineShapeDict = RefineShaped
