"""DSC and HD95 of a mask that nobody has drawn the truth for, each with an interval.

A small perceptron knows from masks whose truth is known how figures of mask and fit go with the mask's quality; several
of them, started differently, are averaged. Where an image was read, its readers tell, see `reader_rule`. Both predict a
mean and a spread, on a scale on which errors are alike: the logit of DSC, the logarithm of HD95 over the shape's
radius. The interval's width in spreads is not theirs: it comes from patients of organs that they were not trained on,
or from the user's own (conformal prediction).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..cases.files import whole_file
from ..prior.tensor_file import TensorFile, open_tensors
from .features import FEATURES_OF, LEAST_LENGTH, OF_FIT, OF_IMAGE, features
from .reader_rule import ReaderRule

TARGETS = ("dsc", "hd95")
WIDTH = 32
MEMBERS = 5
LARGEST = 4.0  # of a feature, in its standard deviations
LEAST_SPREAD = 1e-3
DSC_ENDS = (0.005, 0.995)  # the logit's ends
PROMISE = 0.9  # of the interval


class QualityNet(nn.Module):
    """Perceptrons from features of mask and fit to mean and spread of the two targets.

    Args:
        members: how many perceptrons.
        width: of their two hidden layers.
    """

    told_by = "fit"

    mean: Tensor
    std: Tensor

    def __init__(self, members: int = MEMBERS, width: int = WIDTH) -> None:
        super().__init__()
        self.width = width
        n = len(OF_FIT)
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("std", torch.ones(n))
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(2 * n, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, 2 * len(TARGETS)),
            )
            for _ in range(members)
        )

    def normalise(self, values: Tensor) -> None:
        """Take over mean and standard deviation of features (N, F), NaN left out."""
        known = values.isfinite()
        count = known.sum(0).clamp_min(1)
        self.mean.copy_(torch.where(known, values, 0.0).sum(0) / count)
        variance = torch.where(known, (values - self.mean) ** 2, 0.0).sum(0) / count
        self.std.copy_(torch.where(variance.sqrt() > LEAST_SPREAD, variance.sqrt(), torch.inf))

    def scaled(self, values: Tensor) -> Tensor:
        """Return features (N, F) as inputs (N, 2 F): over their standard deviations, and which are known."""
        scaled = ((values - self.mean) / self.std).clamp(-LARGEST, LARGEST)
        return torch.cat([scaled.nan_to_num(0.0), values.isfinite().float()], 1)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and spread (M, N, 2) of each member for features (N, F)."""
        inputs = self.scaled(values)
        out = torch.stack([member(inputs) for member in self.members])
        return out[..., : len(TARGETS)], out[..., len(TARGETS) :].clamp(-5, 3).exp()

    def raw(self, values: np.ndarray, organ: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return means and spreads (N, 2) of all members together for features (N, F), of whatever organ."""
        with torch.no_grad():
            mean, spread = self(torch.from_numpy(values))
        variance = (spread**2).mean(0) + mean.var(0, unbiased=False)
        return mean.mean(0).numpy(), variance.sqrt().numpy()

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file keeps of it."""
        return {name: value.contiguous() for name, value in self.state_dict().items()}


@dataclass(frozen=True)
class Prediction:
    """What is predicted of one mask.

    Attributes:
        dsc: DSC %, and the ends of its interval.
        hd95_mm: HD95 in mm, and the ends of its interval.
    """

    dsc: tuple[float, float, float]
    hd95_mm: tuple[float, float, float]


class QualityPredictor:
    """Predicts the quality of masks.

    Args:
        model: trained, or fitted.
        widths: target → half of the interval's width, in spreads, of organs that it was not trained on.
        own_widths: the same of new patients of the organs that it was trained on, the `organs` of its card.
        card: what it was trained on.
    """

    def __init__(
        self,
        model: QualityNet | ReaderRule,
        widths: Mapping[str, float],
        own_widths: Mapping[str, float],
        card: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model.eval() if isinstance(model, QualityNet) else model
        self.widths = {target: float(widths[target]) for target in TARGETS}
        self.own_widths = {target: float(own_widths[target]) for target in TARGETS}
        self.card = dict(card or {})

    @property
    def told_by(self) -> str:
        """What it is told by: "fit" for figures of mask and fit, "image" for those of the readers of an image."""
        return self.model.told_by

    def can_tell(self, figures: Mapping[str, float | None]) -> bool:
        """Return whether there are figures for it: of an image, if it is told of images."""
        return bool(np.isfinite(features(figures, self.told_by)).any())

    def knows(self, organ: str) -> bool:
        """Return whether masks of an organ took part in the training."""
        return organ in self.card.get("organs", [])

    def widths_for(self, organ: str) -> Mapping[str, float]:
        """Return the widths that hold for new patients' masks of an organ."""
        return self.own_widths if self.knows(organ) else self.widths

    def raw(self, values: np.ndarray, organ: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return means and spreads (N, 2) for features (N, F) of an organ, on the scale of `targets_of`."""
        return self.model.raw(values, organ)

    def __call__(
        self,
        figures: Mapping[str, float | None],
        radius_mm: float,
        widths: Mapping[str, float],
        organ: str = "",
    ) -> Prediction:
        """Predict the quality of one mask.

        Args:
            figures: of the mask, see `refine.agreement` and `refine.expected`.
            radius_mm: of the fitted shape.
            widths: target → half of the interval's width, in spreads.
            organ: the pack's name; "" for any other.
        """
        mean, spread = (part[0].astype(float) for part in self.raw(features(figures, self.told_by)[None], organ))
        return self.read(mean, spread, radius_mm, widths)

    def read(self, mean: np.ndarray, spread: np.ndarray, radius_mm: float, widths: Mapping[str, float]) -> Prediction:
        """Return what a mean and a spread (2,), see `raw`, say of a mask; the rest as for one mask."""
        half = np.array([widths[target] for target in TARGETS]) * spread
        ends = [mean, mean - half, mean + half]
        dsc = [round(float(100.0 * _expit(one[0])), 1) for one in ends]
        hd95_mm = [round(float(radius_mm * np.exp(one[1])), 2) for one in ends]
        return Prediction((dsc[0], dsc[1], dsc[2]), (hd95_mm[0], hd95_mm[1], hd95_mm[2]))

    def save(self, path: Path) -> None:
        """Write the predictor as safetensors with the card in the header."""
        model = self.model
        own = {"members": len(model.members), "width": model.width} if isinstance(model, QualityNet) else {}
        header = {
            "features": list(FEATURES_OF[self.told_by]),
            **({"shift_of": list(model.shift)} if isinstance(model, ReaderRule) else own),
            "widths": self.widths,
            "own_widths": self.own_widths,
            "card": self.card,
        }
        with whole_file(path) as temporary:
            save_file(model.tensors(), temporary, metadata={"quality": json.dumps(header, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> QualityPredictor:
        """Read a predictor that `save` wrote.

        Raises:
            BrokenFile: the file holds none, or its header does not fit its tensors.
        """
        with open_tensors(path, "quality") as file:
            _check(file)
            known = _rule(file) if file.header["features"] == list(OF_IMAGE) else _net(file)
            return cls(known, file.header["widths"], file.header["own_widths"], file.header.get("card"))


def targets_of(dsc_percent: float, hd95_mm: float, radius_mm: float) -> tuple[float, float]:
    """Return scores on the scale that is predicted: the logit of DSC, the logarithm of HD95 over the radius."""
    share = min(max(dsc_percent / 100.0, DSC_ENDS[0]), DSC_ENDS[1])
    return float(np.log(share / (1.0 - share))), float(np.log(max(hd95_mm, LEAST_LENGTH * radius_mm) / radius_mm))


def _expit(value: float) -> float:
    return float(1.0 / (1.0 + np.exp(-value)))


def _check(file: TensorFile) -> None:
    """Check a header but for what its tensors are.

    Raises:
        BrokenFile: it does not hold what a predictor needs.
    """
    known = any(file.header.get("features") == list(names) for names in FEATURES_OF.values())
    file.require(known, "its features are not those of this version")
    for key in ("widths", "own_widths"):
        widths = file.header.get(key)
        if not isinstance(widths, dict):
            raise file.broken(f"its header has no {key}")
        for target in TARGETS:
            file.length(widths, target, 100.0)
    file.require(isinstance(file.header.get("card", {}), dict), "its card is no mapping")


def _rule(file: TensorFile) -> ReaderRule:
    """Read a rule for the readers of an image.

    Raises:
        BrokenFile: the tensors are none.
    """
    organs = file.header.get("shift_of")
    if not isinstance(organs, list) or not all(isinstance(organ, str) for organ in organs) or "" not in organs:
        raise file.broken("its header does not say whose shifts it has")
    file.require_shapes({"shift": (len(organs), 2, 2), "spread": (2,)})
    found = file.tensors()
    return ReaderRule(dict(zip(organs, found["shift"].numpy(), strict=True)), found["spread"].numpy())


def _net(file: TensorFile) -> QualityNet:
    """Read perceptrons, whose header is checked before a net is built of what it says.

    Raises:
        BrokenFile: the header does not fit the tensors.
    """
    members, width = file.whole(file.header, "members", 64), file.whole(file.header, "width", 1024)
    with torch.device("meta"):  # shapes only: no memory
        expected = {key: tuple(value.shape) for key, value in QualityNet(members, width).state_dict().items()}
    file.require_shapes(expected)
    net = QualityNet(members, width)
    net.load_state_dict(file.tensors())
    return net
