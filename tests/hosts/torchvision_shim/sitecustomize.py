"""A shim for test machines with CPU-only torch: put this folder on PYTHONPATH and torchvision can be imported.

MONAI Label imports torchvision. PyPI's torchvision belongs to the CUDA build of torch; beside a CPU build its compiled
part does not load, and its import fails since two operators are missing that it adds to. They are declared here, and do
nothing. With a torch and torchvision of one kind (`pip install torch torchvision`) no shim is needed.
"""

import torch

LIBRARY = torch.library.Library("torchvision", "DEF")
LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
