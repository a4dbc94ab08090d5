"""A MONAI Deploy application of the SDK's own operators alone: DICOM series → bundle → DICOM SEG."""

import os
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Image, IOType
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from pydicom.sr.codedict import codes


class StockApp(Application):
    """`python stock_app.py -i DICOM -o OUTPUT` with BUNDLE in the environment."""

    def compose(self):
        context = Application.init_app_context(self.argv)
        load = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="load"
        )
        select = DICOMSeriesSelectorOperator(self, name="select")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        bundle = MonaiBundleInferenceOperator(
            self,
            app_context=context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=os.environ["BUNDLE"],
            name="bundle",
        )
        part = {
            "segmented_property_category": codes.SCT.AnatomicalStructure,
            "segmented_property_type": codes.SCT.Hippocampus,
            "algorithm_name": "bundle",
            "algorithm_version": "0",
        }
        writer = DICOMSegmentationWriterOperator(
            self,
            segment_descriptions=[
                SegmentDescription(segment_label=label, **part) for label in ("anterior", "posterior")
            ],
            output_folder=Path(context.output_path),
            name="writer",
        )
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, bundle, {("image", "image")})
        self.add_flow(bundle, writer, {("pred", "seg_image")})
        self.add_flow(select, writer, {("study_selected_series_list", "study_selected_series_list")})


if __name__ == "__main__":
    StockApp().run()
