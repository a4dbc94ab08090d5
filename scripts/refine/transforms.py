"""The refinement chain as MONAI transforms.

FillDrawnd → MendSidesd (→ AddMissingd, see `missing`) → PICCTd → TIMSampled → LatentFinetuned → ReconstructShaped. Each
is a thin face of one step of a `Refiner`. Beside `pred`, the label map (1, X, Y, Z) on the original grid, travels
`pred_shapes`: a list with one stage a structure of the organ pack (see `stages`), which each step replaces by the next.
A structure that cannot be refined is `Unrefined`, with the reason in `failure`, and keeps its initial voxels.
`RefineShape` is the whole chain on tensors, `RefineShaped` its dictionary transform.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from ..cases.arrays import affine_of, file_of, label_array, volume_array
from ..cases.errors import UnrefinableCase
from ..cases.find import CASE
from ..cases.given import GIVEN
from .chain import Image, Refiner
from .draw_mesh import MeshRequest, check_faces, check_mesh_mm
from .drawing import Drawing
from .slices_file import SlicesFile
from .stages import Refined, Unrefined
from .uncertainty import check_uncertainty

logger = logging.getLogger(__name__)

SHAPES, SIDES, DRAWN = "_shapes", "_sides", "_drawn"


class FillDrawnd(MapTransform):
    """Fills a label map of a few drawn slices between them, see `drawing`.

    Adds `<key>_drawn`, the `Drawing`, for the steps that follow.

    Args:
        keys: the label map.
        refiner: of the organ.
        sparse: whether there are but a few slices; otherwise nothing is done.
        slices_file: names the slices of some cases, see `SlicesFile`; those of others are found.
        allow_missing_keys: see MapTransform.

    Raises:
        ValueError: the file cannot be read.
        UnrefinableCase: it is not clear which slices were drawn, or there is nothing to fill in, see `Drawing.of`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refiner: Refiner,
        sparse: bool = False,
        slices_file: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner
        self.sparse = sparse
        self.named = SlicesFile.read(slices_file)
        self.told = self.named.text  # plain, so that a run with another file does its cases again

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fill, and add what was drawn."""
        result = dict(data)
        for key in self.key_iterator(result) if self.sparse else ():
            label_map, affine = label_array(result[key])
            try:
                named = self.named.of(str(result.get(CASE, "")), affine, label_map.shape)
                drawn = Drawing.of(label_map, affine, self.refiner.pack, named)
            except ValueError as error:
                raise UnrefinableCase(f"{file_of(result[key])}: {error}") from None
            logger.info("%s: %s", file_of(result[key]), drawn)
            result[key] = like(result[key], drawn.fill(label_map, affine), affine)
            result[f"{key}{DRAWN}"] = drawn
        return result


class MendSidesd(MapTransform):
    """Gives pieces of labels on the wrong side to their partners, and exchanges all if asked to; see `side_check`.

    Adds `<key>_sides`, what a user should know: a list of texts, empty where the sides are right.

    Args:
        keys: the label map.
        refiner: of the organ.
        fix_sides: whether labels are exchanged.
        prob_key: class probabilities (C, X, Y, Z) of the same network, background first, exchanged with them.
        allow_missing_keys: see MapTransform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refiner: Refiner,
        fix_sides: bool = False,
        prob_key: str | None = "prob",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner
        self.fix_sides = fix_sides
        self.prob_key = prob_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add what was found, and exchange."""
        result = dict(data)
        for key in self.key_iterator(result):
            label_map, affine = label_array(result[key])
            given, is_drawn = result.get(f"{key}{GIVEN}"), f"{key}{DRAWN}" in result
            known = None if given is None else given.writable_labels
            found = self.refiner.mend_sides(label_map, affine, self.fix_sides, known, is_drawn)
            result[f"{key}{SIDES}"] = found.said
            if found.pairs or found.strays:
                result[key] = like(result[key], found.mend(label_map), affine)
                if self.prob_key in result:
                    channel = {label: k for k, label in enumerate(self.refiner.pack.labels, 1)}
                    result[self.prob_key] = found.mend_probabilities(result[self.prob_key], channel)
        return result


class PICCTd(MapTransform):
    """Finds each structure's surface and its canonical frame (METHOD 1): adds `<key>_shapes`, see `Refiner.align`.

    Args:
        keys: the label map.
        refiner: of the organ.
        allow_missing_keys: see MapTransform.
    """

    def __init__(self, keys: KeysCollection, refiner: Refiner, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the stages."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[f"{key}{SHAPES}"] = self.refiner.align(*label_array(result[key]))
        return result


class TIMSampled(MapTransform):
    """Samples each surface with a trust a point, with joint model and evidence; see `Refiner.sample`.

    Args:
        keys: the label map.
        refiner: of the organ.
        image_key: an image on any grid; read by the pack's voxel head, where the pack has one.
        prob_key: class probabilities (C, X, Y, Z) on the label map's grid, background first; beside an
            image, or alone.
        enlarged: whether disease may have enlarged the organs; otherwise masks that are far too large are taken inward.
        allow_missing_keys: see MapTransform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refiner: Refiner,
        image_key: str | None = None,
        prob_key: str | None = "prob",
        enlarged: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner
        self.image_key = image_key
        self.prob_key = prob_key
        self.enlarged = enlarged

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the stages."""
        result = dict(data)
        image = image_of(result.get(self.image_key) if self.image_key else None)
        prob = _probabilities(result.get(self.prob_key) if self.prob_key else None)
        for key in self.key_iterator(result):
            shapes, drawn = f"{key}{SHAPES}", result.get(f"{key}{DRAWN}")
            given = label_array(result[key])
            result[shapes] = self.refiner.sample(result[shapes], *given, image, prob, drawn, self.enlarged)
        return result


class LatentFinetuned(MapTransform):
    """Fits each structure's prior to its samples (Eq. 53); see `Refiner.fit`.

    Args:
        keys: the label map.
        refiner: of the organ.
        allow_missing_keys: see MapTransform.
    """

    def __init__(self, keys: KeysCollection, refiner: Refiner, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the stages."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[f"{key}{SHAPES}"] = self.refiner.fit(result[f"{key}{SHAPES}"])
        return result


class ReconstructShaped(MapTransform):
    """Writes the refined label map and the meshes from the fitted shapes (METHOD 5); see `Refiner.reconstruct`.

    Args:
        keys: the label map.
        refiner: of the organ.
        mesh_mm: spacing of the grid that meshes are drawn on; 0 for the voxels' smallest side, at least 0.8 mm.
        mesh_faces: about how many triangles a mesh has; 0 for all that it is drawn with.
        uncertainty: whether the meshes' vertices get their uncertainty in mm.
        shared_faces: whether meshes of structures that touch share their faces.
        allow_missing_keys: see MapTransform.

    Raises:
        ValueError: `mesh_mm` or `mesh_faces` is no such number, the preset has no uncertainty, or faces that are
            shared would be thinned.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refiner: Refiner,
        mesh_mm: float = 0.0,
        mesh_faces: int = 0,
        uncertainty: bool = False,
        shared_faces: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner
        self.mesh_mm = check_mesh_mm(mesh_mm)
        self.mesh_faces = check_faces(mesh_faces)
        self.uncertainty = check_uncertainty(refiner.settings, uncertainty)
        self.shared_faces = shared_faces
        if shared_faces and self.mesh_faces:
            raise ValueError("mesh_faces would thin shared faces apart: leave it out, or shared_faces")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label map and the stages."""
        result = dict(data)
        asked = MeshRequest(self.mesh_mm, self.mesh_faces, self.uncertainty, self.shared_faces)
        for key in self.key_iterator(result):
            label_map, affine = label_array(result[key])
            refined, shapes = self.refiner.reconstruct(result[f"{key}{SHAPES}"], label_map, affine, asked)
            result[key], result[f"{key}{SHAPES}"] = like(result[key], refined, affine), shapes
        return result


class RefineShape(Transform):
    """The whole chain on one label map, for use outside dictionaries.

    Args:
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        device: where priors, fields and the voxel head are evaluated.
        seed: of the sampling and of the fit.
        enlarged: see `TIMSampled`.

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
        enlarged: bool = False,
    ) -> None:
        self.refiner = Refiner(organ, preset, device, seed)
        self.enlarged = enlarged

    def __call__(
        self,
        label_map: torch.Tensor | np.ndarray,
        image: torch.Tensor | np.ndarray | None = None,
        prob: torch.Tensor | np.ndarray | None = None,
    ) -> tuple[MetaTensor, list[Refined | Unrefined]]:
        """Refine a label map.

        Args:
            label_map: (1, X, Y, Z) or (X, Y, Z), the pack's label values; a MetaTensor's affine says where it lies,
                voxel → world mm, RAS+ (the voxels of a tensor or array without one are 1 mm cubes).
            image: (1, X', Y', Z') or (X', Y', Z') with an affine, on any grid; read by the pack's voxel head,
                where it has one.
            prob: class probabilities (C, X, Y, Z) on the label map's grid, background first; beside an
                image, or alone.

        Returns:
            The refined label map, with the shape, data type, meta data and device of the given one; and one result a
            structure: `Refined` with its mesh (world mm) and its quality figures, or `Unrefined` with the reason why it
            was left as it is in `failure`, or as a warning where far islands went.

        Raises:
            ValueError: an argument is not of such a shape.
        """
        values, affine = label_array(label_map)
        refined, shapes = self.refiner.refine(values, affine, image_of(image), _probabilities(prob), self.enlarged)
        return like(label_map, refined, affine), shapes


class RefineShaped(MapTransform):
    """The four transforms in one: label map (1, X, Y, Z) → refined label map, and `<key>_shapes` beside it.

    For postprocessing of any model, after its prediction is back on the image's own grid (`Invertd`) and is a label map
    (`AsDiscreted` with `argmax`). See `RefineShape` for shapes and frames; nothing is resampled. The log says what was
    not refined, and why: a host that knows nothing of `<key>_shapes` writes such a mask as it is.

    Args:
        keys: the label map.
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        image_key: an image on any grid, as evidence.
        prob_key: class probabilities on the label map's grid, background first; beside an image, or
            alone.
        device: where priors, fields and the voxel head are evaluated.
        seed: of the sampling and of the fit.
        enlarged: see `TIMSampled`.
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
        enlarged: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.prob_key = prob_key
        self.refine = RefineShape(organ, preset, device, seed, enlarged)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label map and add `<key>_shapes`."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result.get(self.image_key) if self.image_key else None
            prob = result.get(self.prob_key) if self.prob_key else None
            result[key], result[f"{key}{SHAPES}"] = self.refine(result[key], image, prob)
            _log_unrefined(str(getattr(result[key], "meta", {}).get("filename_or_obj", key)), result[f"{key}{SHAPES}"])
        return result


def _log_unrefined(what: str, shapes: Sequence[Refined | Unrefined]) -> None:
    """Warn of structures that could not be refined, and of fits that may be wrong."""
    failures = [f"{shape.name}: {shape.failure}" for shape in shapes if shape.failure]
    if failures:
        head = "nothing was refined" if len(failures) == len(shapes) else "not all was refined"
        logger.warning(f"{what}: {head}: {'; '.join(failures)}")
    for shape in shapes:
        for warning in shape.quality.get("warnings", []):
            logger.warning(f"{what}: {shape.name}: {warning}")


def like(given: Any, refined: np.ndarray, affine: np.ndarray) -> MetaTensor:
    """Return a label map (X, Y, Z) with shape, data type, device and meta data of the given one."""
    refined = refined.reshape(given.shape)
    if isinstance(given, np.ndarray):
        values = torch.as_tensor(refined.astype(given.dtype.newbyteorder("=")))
    else:
        values = torch.as_tensor(refined).to(given.device).to(given.dtype)
    return MetaTensor(values, meta={**getattr(given, "meta", {}), "affine": torch.as_tensor(affine)})


def image_of(image: Any) -> Image | None:
    """Return the first channel of an image, (C, X, Y, Z) or (X, Y, Z), with its affine."""
    return (
        None if image is None else Image(np.asarray(volume_array(image, "an image")[0], np.float32), affine_of(image))
    )


def _probabilities(prob: Any) -> np.ndarray | None:
    """Return class probabilities (C, X, Y, Z) as float32."""
    return None if prob is None else np.asarray(volume_array(prob, "probabilities"), np.float32)


FillDrawnD = FillDrawnDict = FillDrawnd
MendSidesD = MendSidesDict = MendSidesd
PICCTD = PICCTDict = PICCTd
TIMSampleD = TIMSampleDict = TIMSampled
LatentFinetuneD = LatentFinetuneDict = LatentFinetuned
ReconstructShapeD = ReconstructShapeDict = ReconstructShaped
RefineShapeD = RefineShapeDict = RefineShaped
