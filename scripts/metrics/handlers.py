"""The metrics as ignite handlers, for `key_metric` and `additional_metrics` of a config.

Unlike MONAI's, they give millimetres: `output_transform` must hand over MetaTensors, whose affine tells the spacing.
Arguments are those of the metric of the same name; `output_transform` and `save_details` are `IgniteMetricHandler`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.handlers import IgniteMetricHandler

from .chamfer import ChamferDistanceMetric
from .earth_movers import EarthMoversDistanceMetric
from .pairs import PairMetric
from .point_to_surface import PointToSurfaceMetric
from .surface import SurfaceScoreMetric
from .topology import TopologyMetric


class PairHandler(IgniteMetricHandler):
    """Base: the handler of the metric that a subclass names."""

    metric: type[PairMetric]

    def __init__(
        self, *args: Any, output_transform: Callable = lambda x: x, save_details: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(self.metric(*args, **kwargs), output_transform=output_transform, save_details=save_details)


class SurfaceScore(PairHandler):
    """DSC and NSD in %, HD95 and ASSD in mm: `score` is "dsc", "nsd", "hd95_mm" or "assd_mm"."""

    metric = SurfaceScoreMetric


class ChamferDistance(PairHandler):
    """Chamfer distance, ×1000, of normalised surfaces."""

    metric = ChamferDistanceMetric


class EarthMoversDistance(PairHandler):
    """Earth Mover's distance of normalised surfaces."""

    metric = EarthMoversDistanceMetric


class PointToSurface(PairHandler):
    """Mean distance between surfaces, mm."""

    metric = PointToSurfaceMetric


class Topology(PairHandler):
    """Components, holes or difference in volume: `figure` is "components", "holes" or "volume_difference_percent"."""

    metric = TopologyMetric
