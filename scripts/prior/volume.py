"""How large an organ usually is: the volumes of a prior's training shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import special

LEAST_SHAPES = 8  # whole ones, below which nothing is said of their spread
SITE_DEVIATIONS = 0.8  # by which the means of other patients' true organs differ at most
LEAST_LOG_SD = 0.01  # or shapes are copies of each other


@dataclass(frozen=True)
class UsualVolume:
    """The volumes of an organ, log-normal over patients, as known from a few shapes.

    Attributes:
        mean_ml: their geometric mean.
        log_sd: standard deviation of their natural logarithms.
        n: how many shapes they are of.
    """

    mean_ml: float
    log_sd: float
    n: int

    @classmethod
    def of(cls, volumes_ml: Sequence[float]) -> UsualVolume | None:
        """Return the usual volume of whole shapes; None of too few, or of copies of one."""
        if len(volumes_ml) < LEAST_SHAPES:
            return None
        logs = np.log(np.asarray(volumes_ml, float))
        log_sd = float(logs.std(ddof=1))
        return None if log_sd < LEAST_LOG_SD else cls(round(float(np.exp(logs.mean())), 4), round(log_sd, 4), len(logs))

    @classmethod
    def from_card(cls, card: Mapping[str, object]) -> UsualVolume | None:
        """Return what a prior's card says; None where it does not."""
        known = card.get("volume")
        return cls(**known) if isinstance(known, dict) else None

    def as_json(self) -> dict[str, float | int]:
        """Return plain JSON values."""
        return asdict(self)

    def deviations(self, volume_ml: float) -> float:
        """Return how unusual a volume is, in standard deviations of a normal variable; positive where it is large.

        Few shapes leave their spread uncertain: a volume is as unusual as the predictive distribution (Student's t)
        of a further shape makes it. At most 30.
        """
        far = np.log(volume_ml / self.mean_ml) / self._scale
        size = min(float(-special.ndtri(special.stdtr(self.n - 1, -abs(far)))), 30.0)
        return size if far > 0 else -size

    def volume_ml_at(self, deviations: float) -> float:
        """Return the volume in ml so many deviations above the mean, the inverse of `deviations`."""
        far = -special.stdtrit(self.n - 1, special.ndtr(-abs(deviations)))
        return float(self.mean_ml * np.exp(np.sign(deviations) * far * self._scale))

    @property
    def _scale(self) -> float:
        return self.log_sd * float(np.sqrt(1.0 + 1.0 / self.n))
