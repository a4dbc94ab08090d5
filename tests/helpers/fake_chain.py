"""A stand-in for the refinement chain: keeps the largest component of each label, and fails on request."""

import os
import re
import signal
import time
from types import SimpleNamespace

import numpy as np
import torch
import trimesh
from monai.transforms import KeepLargestConnectedComponent, MapTransform

from scripts.prior.correspondence import Correspondence

BALL = trimesh.creation.icosphere(subdivisions=1)


class KeepLargestd(MapTransform):
    """Keep each label's largest component.

    Args:
        keys: the label map.
        error: name of a built-in exception to raise for cases in which label `at` occurs.
        at: see `error`.
    """

    def __init__(self, keys="pred", error="", at=0):
        super().__init__(keys)
        self.error, self.at = error, at

    def __call__(self, data):
        d = dict(data)
        mask = d["pred"]
        if self.error and (torch.as_tensor(mask) == self.at).any():
            raise {"ValueError": ValueError, "KeyError": KeyError}[self.error]("made to fail")
        labels = [int(v) for v in torch.unique(torch.as_tensor(mask)) if v]
        d["pred"] = KeepLargestConnectedComponent(applied_labels=labels, independent=True)(mask)
        d["pred_shapes"] = [
            SimpleNamespace(
                name=f"organ_{v}",
                mesh=BALL,
                correspondence=Correspondence(
                    BALL.vertices.astype(np.float32), np.full((len(BALL.vertices), 3), 10 * v, np.uint8)
                ),
                uncertainty_mm=None,
                failure="",
                quality={"share": np.float32(0.5), "worst": float("nan"), "regions": [{"kept": np.bool_(True)}]},
                seconds={"fit": 0.1},
            )
            for v in labels
        ]
        return d


class KillsItselfd(KeepLargestd):
    """The same; but for cases whose file's name begins as a regular expression, the process is killed.

    Args:
        name: the regular expression.
        once: a file that is made when a process is killed, and of which none is where it is there; "" for always.
    """

    def __init__(self, name, once=""):
        super().__init__()
        self.name, self.once = re.compile(name), str(once)

    def __call__(self, data):
        if self.name.match(os.path.basename(data["pred"].meta["filename_or_obj"])) and not os.path.exists(self.once):
            if self.once:
                open(self.once, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(data)


class TakesMemoryd(KeepLargestd):
    """The same; but for the case of a name, memory is taken until the process is killed, at most `most_mb`."""

    def __init__(self, name, most_mb=2000):
        super().__init__()
        self.name, self.most_mb = name, most_mb

    def __call__(self, data):
        if os.path.basename(data["pred"].meta["filename_or_obj"]).startswith(self.name):
            taken = []
            while 50 * len(taken) < self.most_mb:
                taken.append(np.ones(50 << 17))  # 50 MB that are written to
                time.sleep(0.05)
        return super().__call__(data)


class Failed(MapTransform):
    """Say that every structure failed, and change nothing."""

    def __call__(self, data):
        none = {"mesh": None, "correspondence": None, "uncertainty_mm": None}
        shape = SimpleNamespace(name="organ", failure="no fit", quality={}, seconds={}, **none)
        return {**data, "pred_shapes": [shape]}


class Thresholdd(MapTransform):
    """A network's output (1, X, Y, Z) → label map of its positive voxels."""

    def __call__(self, data):
        return {**data, "pred": (data["pred"] > 0.5).int()}
