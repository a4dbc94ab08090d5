"""Several structures' fields as one, so that all structures of a case are fitted in one batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from .field import DeformedTemplate, DeformTemplateField
from .hypernet import DeformWeights
from .siren import Layers, sine_forward


class FieldStack(DeformedTemplate):
    """Fields of B priors as one: instance i is of field i, with a template and a hyper-network of its own.

    Args:
        fields: of the same sizes, on one device; their parameters are copied and not trained.

    Raises:
        ValueError: there is none, or they differ in size.
    """

    def __init__(self, fields: Sequence[DeformTemplateField]) -> None:
        super().__init__()
        if not fields or any(field.settings != fields[0].settings for field in fields):
            raise ValueError("a stack needs fields of the same settings")
        self.n_layers, self.omega = fields[0].n_layers, fields[0].omega
        layers = zip(*(field.template_net.layers() for field in fields), strict=True)
        self._template: Layers = [
            (torch.stack([w.detach() for w, _ in own]), torch.stack([b.detach() for _, b in own])) for own in layers
        ]
        self._hyper_values = stack_module_state([field.hyper for field in fields])
        self._hyper = copy.deepcopy(fields[0].hyper).to("meta")

    def template(self, points: Tensor) -> Tensor:
        """T_i at points (B, N, 3): (B, N, 1)."""
        return sine_forward(self._template, points, self.omega)

    def template_layers(self) -> Layers:
        """T_i's weights."""
        return self._template

    def weights(self, beta: Tensor) -> DeformWeights:
        """Materialised deform weights of the B instances from β (B, H), see `DeformedTemplate.weights`."""

        def one(values: dict[str, Tensor], buffers: dict[str, Tensor], code: Tensor) -> DeformWeights:
            return functional_call(self._hyper, (values, buffers), (code[None],))

        found = vmap(one)(*self._hyper_values, beta)
        return {name: value[:, 0] for name, value in found.items()}
