"""The refinement chain as MONAI transforms.

(FillDrawnd →) MendSidesd → (AddMissingd →) PICCTd → TIMSampled → LatentFinetuned → ReconstructShaped; for those in
brackets see `fill_drawn` and `missing`. Each is a thin face of one step of a `Refiner`. Beside `pred`, the label map
(1, X, Y, Z) on the original grid, travels `pred_shapes`: a list with one stage a structure of the organ pack (see
`stages`), which each step replaces by the next. A structure that cannot be refined is `Unrefined`, with the reason in
`failure`, and keeps its initial voxels.
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

from ..cases.arrays import file_of, label_array, like, volume_array
from ..cases.given import GIVEN
from .chain import Image, Refiner
from .draw_mesh import MeshRequest, check_faces, check_mesh_mm
from .fill_drawn import DRAWN
from .missing import ADDED_SAID, CANNOT_DRAW, AddMissingd, can_draw
from .stages import Refined, Unrefined
from .uncertainty import check_uncertainty

logger = logging.getLogger(__name__)

SHAPES, SIDES = "_shapes", "_sides"


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
        image = Image.of(result.get(self.image_key) if self.image_key else None)
        prob = result.get(self.prob_key) if self.prob_key else None
        prob = None if prob is None else np.asarray(volume_array(prob, "probabilities"), np.float32)
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
        device: where priors, fields, the voxel head and the U-Net are evaluated.
        seed: of the sampling and of the fit.
        enlarged: see `TIMSampled`.
        fix_sides: see `MendSidesd`.
        inward_mm: by how much masks are taken inward first, such as "liver=2", see `inward.read_inward`.
        second_reader: whether the pack's U-Net reads images, too; false for masks that began as its own.
        add_missing: whether the pack's U-Net draws in the image what a mask lacks, see `missing`.

    Raises:
        OrganError: there is no such organ pack.
        FileNotFoundError: a prior of the pack has not been trained.
        ValueError: there is no such preset, no such structure to take inward, no U-Net that can draw what is missing,
            or what is drawn would be taken inward.
    """

    def __init__(
        self,
        organ: str | Path = "hippocampus",
        preset: str = "default",
        device: str | torch.device = "cpu",
        seed: int = 0,
        enlarged: bool = False,
        fix_sides: bool = False,
        inward_mm: object = "",
        second_reader: bool = True,
        add_missing: bool = False,
    ) -> None:
        self.refiner = Refiner(organ, preset, device, seed, inward_mm=inward_mm, second=second_reader)
        if add_missing and not can_draw(self.refiner.pack):
            raise ValueError(CANNOT_DRAW.format(self.refiner.pack.name))
        if add_missing and self.refiner.inward_mm:
            raise ValueError("inward_mm would move what add_missing draws, too: leave out one of them")
        self.add_missing = add_missing
        self.steps: tuple[MapTransform, ...] = (
            MendSidesd("pred", self.refiner, fix_sides),
            AddMissingd("pred", self.refiner, add=add_missing, device=device),
            PICCTd("pred", self.refiner),
            TIMSampled("pred", self.refiner, image_key="image", enlarged=enlarged),
            LatentFinetuned("pred", self.refiner),
            ReconstructShaped("pred", self.refiner),
        )

    def __call__(
        self,
        label_map: torch.Tensor | np.ndarray,
        image: torch.Tensor | np.ndarray | None = None,
        prob: torch.Tensor | np.ndarray | None = None,
    ) -> tuple[MetaTensor, list[Refined | Unrefined]]:
        """Refine a label map; the log says what was found of sides and of missing structures.

        Args:
            label_map: (1, X, Y, Z) or (X, Y, Z), the pack's label values; a MetaTensor's affine says where it lies,
                voxel → world mm, RAS+ (the voxels of a tensor or array without one are 1 mm cubes).
            image: (1, X', Y', Z') or (X', Y', Z') with an affine, on any grid; read by the pack's voxel head and
                second reader, where it has such.
            prob: class probabilities (C, X, Y, Z) on the label map's grid, background first; beside an
                image, or alone.

        Returns:
            The refined label map, with the shape, data type, meta data and device of the given one; and one result a
            structure: `Refined` with its mesh (world mm) and its quality figures, or `Unrefined` with the reason why it
            was left as it is in `failure`, or as a warning where far islands went.

        Raises:
            ValueError: an argument is not of such a shape.
        """
        if self.add_missing and image is None:
            logger.warning("%s: nothing that is missing is added without an image", file_of(label_map))
        given = {"pred": label_map, "image": image, "prob": prob}
        data: dict[Hashable, Any] = {key: value for key, value in given.items() if value is not None}
        for step in self.steps:
            data = step(data)
        for said in [*data[f"pred{SIDES}"], *data.get(f"pred{ADDED_SAID}", [])]:
            logger.warning("%s: %s", file_of(label_map), said)
        return data["pred"], data[f"pred{SHAPES}"]


class RefineShaped(MapTransform):
    """The whole chain in one: label map (1, X, Y, Z) → refined label map, and `<key>_shapes` beside it.

    For postprocessing of any model, after its prediction is back on the image's own grid (`Invertd`) and is a label map
    (`AsDiscreted` with `argmax`). See `RefineShape` for shapes and frames; nothing is resampled. The log says what was
    not refined, and why: a host that knows nothing of `<key>_shapes` writes such a mask as it is. Probabilities stay as
    they were, also where labels of left and right were exchanged.

    Args:
        keys: the label map.
        organ: name of an organ pack, or its path.
        preset: see `configs/presets.yaml`.
        image_key: an image on any grid, as evidence.
        prob_key: class probabilities on the label map's grid, background first; beside an image, or
            alone.
        device: where priors, fields, the voxel head and the U-Net are evaluated.
        seed: of the sampling and of the fit.
        allow_missing_keys: see MapTransform.
        options: the others of `RefineShape`, by name.

    Raises:
        ValueError: structures are to be drawn without an image; or see `RefineShape`.
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
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if options.get("add_missing") and not image_key:
            raise ValueError("add_missing draws structures from images: give image_key")
        self.image_key = image_key
        self.prob_key = prob_key
        self.refine = RefineShape(organ, preset, device, seed, enlarged, **options)

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


MendSidesD = MendSidesDict = MendSidesd
PICCTD = PICCTDict = PICCTd
TIMSampleD = TIMSampleDict = TIMSampled
LatentFinetuneD = LatentFinetuneDict = LatentFinetuned
ReconstructShapeD = ReconstructShapeDict = ReconstructShaped
RefineShapeD = RefineShapeDict = RefineShaped
