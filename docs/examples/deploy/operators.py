"""The application's own operators: the bundle's inference on a volume, and the writer of meshes and result."""

import json
from pathlib import Path

import numpy as np
import torch
from bundle import Bundle
from monai.data import MetaTensor
from monai.deploy.core import Fragment, Image, Operator, OperatorSpec
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator


def volume_of(image: Image) -> MetaTensor:
    """Return a series' volume as `LoadImaged` reads it from NIfTI: (columns, rows, slices) float32, affine in RAS+ mm.

    The SDK's affine has the two values of PixelSpacing (between rows, between columns) the wrong way round, which
    matters where pixels are not square; its directions are right (DICOM PS3.3, C.7.6.2.1.1). It is rounded to float32,
    as NIfTI stores it: the size of a resampled grid is a rounding, too, and must not turn on the eighth decimal.
    """
    meta = image.metadata()
    affine = np.array(meta["nifti_affine_transform"], dtype=float)
    between_rows_mm, between_columns_mm = float(meta["row_pixel_spacing"]), float(meta["col_pixel_spacing"])
    affine[:3, 0] *= between_columns_mm / between_rows_mm
    affine[:3, 1] *= between_rows_mm / between_columns_mm
    values = np.ascontiguousarray(image.asnumpy().transpose(2, 1, 0), dtype=np.float32)
    return MetaTensor(
        torch.from_numpy(values),
        affine=torch.from_numpy(affine.astype(np.float32).astype(float)),
        meta={"filename_or_obj": str(meta["SeriesInstanceUID"]), "space": "RAS", "original_channel_dim": "no_channel"},
    )


class SelectSeriesOperator(DICOMSeriesSelectorOperator):
    """The SDK's selector of series; where it selects none, it says what there is instead."""

    def filter(self, selection_rules, dicom_study_list, *args, **kwargs):
        """Return the series that the rules select.

        Raises:
            ValueError: there is none.
        """
        found = super().filter(selection_rules, dicom_study_list, *args, **kwargs)
        if not found:
            there = sorted({str(series.Modality) for study in dicom_study_list for series in study.get_all_series()})
            wanted = selection_rules["selections"][0]
            raise ValueError(
                f"no series fits {wanted['name']}, which needs {wanted['conditions']['Modality']}; the input has "
                f"{', '.join(there)}: give such a series, or choose another organ in app.yaml"
            )
        return found


class SegmentAndRefineOperator(Operator):
    """Runs the bundle's inference config on a volume.

    The SDK's `MonaiBundleInferenceOperator` gives the same label map; this one also hands on meshes and result, takes
    any organ, and sets the volume's affine right.

    Named input:
        image: the series' volume, (slices, rows, columns).

    Named outputs:
        pred: the refined label map on the same grid, uint8.
        shapes: the meshes, structure name → trimesh.Trimesh, RAS+ world mm.
        result: what came of it, plain JSON values.
    """

    def __init__(self, fragment: Fragment, *args, bundle: Bundle, **kwargs) -> None:
        self.bundle = bundle
        self.network = bundle.network()
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name input and outputs."""
        spec.input("image")
        spec.output("pred")
        spec.output("shapes")
        spec.output("result")

    def compute(self, op_input, op_output, context) -> None:
        """Segment and refine."""
        image = op_input.receive("image")
        data = self.bundle.preprocessing({"image": volume_of(image)})
        with torch.no_grad():
            batch = torch.as_tensor(data["image"])[None].to(self.bundle.device)
            logits = self.bundle.inferer(batch, self.network)[0]
        data["pred"] = MetaTensor(logits, meta=dict(data["image"].meta))
        data = self.bundle.postprocessing(data)
        labels = torch.as_tensor(data["pred"])[0].cpu().numpy().transpose(2, 1, 0).astype(np.uint8)
        op_output.emit(Image(np.ascontiguousarray(labels), image.metadata()), "pred")
        shapes = data.get("pred_shapes", [])  # none without refinement
        op_output.emit({s.name: s.mesh for s in shapes if s.mesh is not None}, "shapes")
        op_output.emit(data["result"], "result")


class ResultWriterOperator(Operator):
    """Writes `<structure>.stl` (binary, RAS+ world mm) of every mesh, and `result.json`.

    Named inputs:
        shapes: structure name → mesh.
        result: plain JSON values.
    """

    def __init__(self, fragment: Fragment, *args, output_folder: Path, **kwargs) -> None:
        self.output_folder = output_folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the inputs."""
        spec.input("shapes")
        spec.input("result")

    def compute(self, op_input, op_output, context) -> None:
        """Write the files."""
        self.output_folder.mkdir(parents=True, exist_ok=True)
        for name, mesh in op_input.receive("shapes").items():
            header = b"binary STL in mm, SPACE=RAS".ljust(80)  # 3D Slicer takes a mesh without a frame for LPS
            (self.output_folder / f"{name}.stl").write_bytes(header + mesh.export(file_type="stl")[80:])
        result = json.dumps(op_input.receive("result"), indent=1, allow_nan=False)
        (self.output_folder / "result.json").write_text(result + "\n")
