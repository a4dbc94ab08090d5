"""The evidence ensemble: what several evidence networks agree on.

With few patients to learn from, a single network is often sure and wrong about a patient that it has not seen; networks
that learned apart are seldom wrong in the same place. So the ensemble says what its least sure member says, and nothing
where the members contradict each other. Of a mask so poor that nearly any change mends it, their mean says more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..cases.files import whole_file
from .network import EvidenceNet


class EvidenceEnsemble(nn.Module):
    """Evidence networks of the same structures, asked together.

    Args:
        members: the networks, at least one, in evaluation mode.
        card: what they were trained on.

    Raises:
        ValueError: there is none, or they differ in structures or spacing.
    """

    def __init__(self, members: Sequence[EvidenceNet], card: dict[str, Any] | None = None) -> None:
        super().__init__()
        if len({(tuple(m.structures), m.spacing_mm, m.features) for m in members}) != 1:
            raise ValueError("an ensemble needs networks of the same structures, spacing and features")
        self.members = nn.ModuleList(members)
        self.structures = members[0].structures
        self.spacing_mm = members[0].spacing_mm
        self.features = members[0].features
        self.card = dict(card or {})

    def forward(self, image: Tensor, mask_sdf_mm: Tensor, context_sdf_mm: Tensor) -> Tensor:
        """Return the members' logits (M, B, S, X, Y, Z); arguments are those of `EvidenceNet.forward`."""
        return torch.stack([member(image, mask_sdf_mm, context_sdf_mm) for member in self.members])

    def save(self, path: Path) -> None:
        """Write the networks as safetensors (half precision) with the card in the header."""
        state = self.members.state_dict()
        tensors = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
        header = {
            "structures": self.structures,
            "spacing_mm": self.spacing_mm,
            "features": list(self.features),
            "members": len(self.members),
            "card": self.card,
        }
        with whole_file(path) as temporary:
            save_file(tensors, temporary, metadata={"evidence": json.dumps(header, sort_keys=True)})

    @classmethod
    def load(cls, path: Path, device: str | torch.device = "cpu") -> EvidenceEnsemble:
        """Read an ensemble that `save` wrote, in evaluation mode."""
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["evidence"])
            state = {key: file.get_tensor(key) for key in file.keys()}
        own = header["structures"], header["spacing_mm"], tuple(header["features"])
        ensemble = cls([EvidenceNet(*own) for _ in range(header["members"])], header["card"])
        ensemble.members.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        return ensemble.to(torch.device(device)).eval()


def agreed(logits: Tensor) -> Tensor:
    """Return the least sure member's logits of (M, …), 0 where the members contradict each other."""
    return logits.amin(0).clamp_min(0) + logits.amax(0).clamp_max(0)
