"""The saved shape prior of one structure: field, linear model, canonical frame and statistics, with a card."""

from __future__ import annotations

import copy
import inspect
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from safetensors.torch import save
from torch import Tensor

from ..cases.files import whole_file
from ..geometry.surface import sample_surface
from .field import DeformTemplateField, field_sizes
from .level_set import zero_level
from .linear import LinearShapeModel, check_linear
from .tensor_file import BrokenFile, TensorFile, open_tensors

FORMAT = "implicit-shape-prior/1"
N_TEMPLATE_POINTS = 4000
UNUSED = 1e-6  # standard deviation of code components that are not in use, so that the whitening can be inverted
MOST = {"hidden": 4096, "layers": 64, "code_dim": 4096, "hyper_code_dim": 4096, "rank": 4096}  # of a field's sizes


@dataclass
class ShapePrior:
    """Everything refinement needs to know of one structure's shape. All tensors are float32 on one device.

    Attributes:
        field: the trained deform-template field.
        linear: the linear model, or None.
        anchor_points: (K, 3) canonical surface points of the anchor, PICCT's target.
        template_points: (M, 3) points spread uniformly over the template's surface.
        template_normals: (M, 3) their outward normals.
        scale_mm: mm of one canonical unit in the anchor's own frame.
        code_mean: (A + H,) mean of the training codes, α before β.
        code_whitening: (A + H, A + H); codes = code_mean + code_whitening @ z with z ~ N(0, 1).
        linear_to_code: (K + 1, A + H), or None without a linear model: codes = [1, linear scores] @ linear_to_code.
        card: how the prior came about: data, settings, hash, licence, figures.
    """

    field: DeformTemplateField
    linear: LinearShapeModel | None
    anchor_points: Tensor
    template_points: Tensor
    template_normals: Tensor
    scale_mm: float
    code_mean: Tensor
    code_whitening: Tensor
    linear_to_code: Tensor | None
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.code_mean.device

    @torch.inference_mode(False)  # as in `load`
    def to(self, device: str | torch.device) -> ShapePrior:
        """Return the prior with its tensors on a device; but the linear model stays where it is fitted, on the CPU."""
        target = torch.device(device)
        if target == self.device:
            return self
        tensors: dict[str, Any] = {k: own.to(target) for k, own in vars(self).items() if isinstance(own, Tensor)}
        return replace(self, field=copy.deepcopy(self.field).to(target), **tensors)

    def split_codes(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (..., A + H) to α (..., A) and β (..., H)."""
        return codes[..., : self.field.code_dim], codes[..., self.field.code_dim :]

    def codes_from_latent(self, latent: Tensor) -> Tensor:
        """Whitened z (..., A + H) to codes (..., A + H)."""
        return self.code_mean + latent @ self.code_whitening.T

    def latent_from_codes(self, codes: Tensor) -> Tensor:
        """Codes (..., A + H) to whitened z (..., A + H), the inverse of `codes_from_latent`."""
        return torch.linalg.solve(self.code_whitening, (codes - self.code_mean).unsqueeze(-1)).squeeze(-1)

    def codes_from_scores(self, scores: Tensor) -> Tensor:
        """Codes (..., A + H) which the regression gives for the linear model's whitened scores (..., K).

        Raises:
            ValueError: the prior has no linear model.
        """
        if self.linear_to_code is None:
            raise ValueError("this prior has no linear model to start from")
        return self.linear_to_code[0] + scores @ self.linear_to_code[1:]

    def save(self, path: str | Path) -> Path:
        """Write the prior as safetensors, its card as JSON in the header; the file appears whole or not at all.

        The field is written in half precision, which moves its surface by some hundredths of a millimetre.
        """
        tensors = {f"field.{name}": value.half() for name, value in self.field.state_dict().items()}
        tensors.update(
            anchor_points=self.anchor_points,
            template_points=self.template_points,
            template_normals=self.template_normals,
            code_mean=self.code_mean,
            code_whitening=self.code_whitening,
        )
        if self.linear is not None:
            tensors.update({f"linear.{name}": value for name, value in self.linear.state().items()})
        if self.linear_to_code is not None:
            tensors["linear_to_code"] = self.linear_to_code
        header = {
            "format": FORMAT,
            "field": self.field.settings,
            "scale_mm": self.scale_mm,
            "card": self.card,
        }
        payload = save(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            metadata={"prior": json.dumps(header, sort_keys=True)},
        )
        with whole_file(path) as temporary:
            temporary.write_bytes(payload)
        return Path(path)

    @staticmethod
    @torch.inference_mode(False)  # hosts may build transforms in inference mode, whose tensors autograd refuses
    def load(path: str | Path, device: str | torch.device = "cpu") -> ShapePrior:
        """Read a prior.

        Raises:
            FileNotFoundError: there is no such file.
            BrokenFile: the file is no shape prior of this format, or its header does not fit its tensors.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no shape prior at {path}; train one with configs/train_prior.yaml")
        with open_tensors(path, "prior") as file:
            _check(file)
            header, tensors = file.header, file.tensors()
        target = torch.device(device)
        model = DeformTemplateField(**header["field"])
        try:
            model.load_state_dict(_part(tensors, "field."))
        except RuntimeError as error:
            raise file.broken("its header's field is of other tensors") from error
        model.to(target).eval().requires_grad_(False)
        linear = _part(tensors, "linear.")  # stays on the CPU, where it is fitted
        to_code = tensors.get("linear_to_code")
        return ShapePrior(
            field=model,
            linear=LinearShapeModel.from_state(linear) if linear else None,
            anchor_points=tensors["anchor_points"].to(target),
            template_points=tensors["template_points"].to(target),
            template_normals=tensors["template_normals"].to(target),
            scale_mm=float(header["scale_mm"]),
            code_mean=tensors["code_mean"].to(target),
            code_whitening=tensors["code_whitening"].to(target),
            linear_to_code=None if to_code is None else to_code.to(target),
            card=header["card"],
        )


def _check(file: TensorFile) -> None:
    """Check that a prior's header fits its tensors, before a network is built of what it says.

    Raises:
        BrokenFile: it does not, or it is of another format.
    """
    found = file.header.get("format")
    if found != FORMAT:
        raise BrokenFile(f"{file.path} is no shape prior of format {FORMAT!r} (found {found!r}): train it anew")
    file.require(isinstance(file.header.get("card"), dict), "its header has no card")
    file.length(file.header, "scale_mm")
    settings = file.header.get("field")
    known = inspect.signature(field_sizes).parameters
    if not isinstance(settings, dict) or set(settings) != set(known):
        raise file.broken(f"its header's field needs {', '.join(known)}")
    for key, most in MOST.items():
        file.whole(settings, key, most)
    file.length(settings, "omega")
    try:
        sizes = field_sizes(**settings)
    except ValueError as error:
        raise file.broken(error) from error
    file.require_shapes({f"field.{name}": shape for name, shape in sizes.items()})
    codes = settings["code_dim"] + settings["hyper_code_dim"]
    file.require_shapes({"code_mean": (codes,), "code_whitening": (codes, codes)})
    for name in ("anchor_points", "template_points", "template_normals"):
        count = file.shapes.get("template_points" if name == "template_normals" else name, (0,))[0]
        file.require_shapes({name: (count, 3)})
    if any(name.startswith("linear.") for name in file.shapes):
        modes = check_linear(file, "linear.")
        if "linear_to_code" in file.shapes:
            file.require_shapes({"linear_to_code": (modes + 1, codes)})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def template_surface(
    model: DeformTemplateField, extent: float = 1.1, resolution: int = 80, min_share: float = 0.05
) -> trimesh.Trimesh:
    """The template's zero level as a closed mesh in the canonical frame; see `zero_level`.

    Raises:
        ValueError: the template has no surface.
    """
    device = next(model.parameters()).device
    return zero_level(lambda points: model.template(points.to(device))[:, 0].cpu(), extent, resolution, min_share)


def code_statistics(codes: Tensor, floor: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Mean (D,) and whitening (D, D) of codes (S, D); variances below `floor` of the largest are raised to that.

    Components that are 0 in all shapes are not in use: fits of whitened codes leave them where they are.
    """
    used = (codes != 0).any(dim=0)
    if not used.all():
        whitening = UNUSED * torch.eye(codes.shape[1])
        if used.any():
            whitening[used.nonzero(), used.nonzero().T] = code_statistics(codes[:, used], floor)[1]
        return codes.mean(dim=0), whitening
    mean = codes.mean(dim=0)
    centred = (codes - mean).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(len(codes) - 1, 1))
    values, vectors = values.flip(0), vectors.flip(1)
    peak = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()  # a sign is arbitrary: runs must agree
    values = values.clamp_min(max(floor * float(values[0]), 1e-12))
    return mean, (vectors * peak * values.sqrt()).float()


def regress_codes(scores: Tensor, codes: Tensor, ridge: float = 0.01) -> Tensor:
    """Ridge regression of codes (S, D) on [1, whitened scores (S, K)]: (K + 1, D). The offset is not shrunk."""
    design = torch.cat([torch.ones(len(scores), 1), scores], dim=1).double()
    penalty = ridge * len(scores) * torch.eye(design.shape[1], dtype=torch.float64)
    penalty[0, 0] = 0.0
    return torch.linalg.solve(design.T @ design + penalty, design.T @ codes.double()).float()


def bare_prior(
    model: DeformTemplateField, alpha: Tensor, beta: Tensor, linear: LinearShapeModel, scores: Tensor
) -> ShapePrior:
    """What fits need of a prior, on the field's device: no anchor, and no template surface.

    Args:
        model: the field; it is used as it stands, not copied.
        alpha: (S, A) codes of the training shapes.
        beta: (S, H) their hyper codes.
        linear: linear model.
        scores: (S, K) its scores of the training shapes.
    """
    codes = torch.cat([alpha, beta], dim=1).detach().cpu()
    mean, whitening = code_statistics(codes)
    device = alpha.device
    empty = torch.zeros(0, 3, device=device)
    return ShapePrior(
        field=model,
        linear=linear,
        anchor_points=empty,
        template_points=empty,
        template_normals=empty,
        scale_mm=1.0,
        code_mean=mean.to(device),
        code_whitening=whitening.to(device),
        linear_to_code=regress_codes(scores.cpu(), codes).to(device),
    )


def assemble_prior(
    model: DeformTemplateField,
    alpha: Tensor,
    beta: Tensor,
    linear: LinearShapeModel,
    scores: Tensor,
    anchor_points: np.ndarray,
    scale_mm: float,
    card: dict[str, Any],
) -> ShapePrior:
    """Put a trained field on the CPU and its shapes' codes α (S, A), β (S, H) together with all derived from them."""
    points, normals = sample_surface(template_surface(model), N_TEMPLATE_POINTS, seed=0)
    return replace(
        bare_prior(model, alpha.detach().cpu(), beta.detach().cpu(), linear, scores),
        anchor_points=torch.as_tensor(anchor_points, dtype=torch.float32),
        template_points=torch.as_tensor(points, dtype=torch.float32),
        template_normals=torch.as_tensor(normals, dtype=torch.float32),
        scale_mm=float(scale_mm),
        card=card,
    )
