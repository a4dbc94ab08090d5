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
from safetensors.torch import save_file
from torch import Tensor, nn

from ..cases.files import whole_file
from ..prior.tensor_file import TensorFile, open_tensors
from .network import EvidenceNet

MOST_MEMBERS = 64
MOST_STRUCTURES = 256
LEVELS = 6  # of features


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
        """Read an ensemble that `save` wrote, in evaluation mode.

        Raises:
            BrokenFile: the file holds no evidence networks, or its header does not fit its tensors.
        """
        with open_tensors(path, "evidence") as file:
            _check(file)
            header, state = file.header, file.tensors()
        own = header["structures"], header["spacing_mm"], tuple(header["features"])
        ensemble = cls([EvidenceNet(*own) for _ in range(header["members"])], header["card"])
        ensemble.members.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        return ensemble.to(torch.device(device)).eval()


def _check(file: TensorFile) -> None:
    """Check that the header fits the tensors, before a network is built of what it says.

    Raises:
        BrokenFile: it does not.
    """
    structures, features = file.header.get("structures"), file.header.get("features")
    if not isinstance(structures, list) or not 1 <= len(structures) <= MOST_STRUCTURES:
        raise file.broken(f"its header names no structures, or more than {MOST_STRUCTURES}")
    file.require(all(isinstance(name, str) for name in structures), "its header's structures are no names")
    if not isinstance(features, list) or len(features) != LEVELS:
        raise file.broken(f"its header has no {LEVELS} features")
    for width in features:
        file.whole({"features": width}, "features", 1024)
    file.length(file.header, "spacing_mm", 100.0)
    members = file.whole(file.header, "members", MOST_MEMBERS)
    with torch.device("meta"):  # shapes only: no memory
        member = EvidenceNet(structures, file.header["spacing_mm"], tuple(features)).state_dict()
    expected = {f"{number}.{key}": tuple(value.shape) for number in range(members) for key, value in member.items()}
    unknown = [name for name in file.shapes if name not in expected]
    file.require(not unknown, f"its header's networks have no {unknown[:1]}")
    file.require_shapes(expected)


def agreed(logits: Tensor) -> Tensor:
    """Return the least sure member's logits of (M, …), 0 where the members contradict each other."""
    return logits.amin(0).clamp_min(0) + logits.amax(0).clamp_max(0)
