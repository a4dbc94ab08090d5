"""A DICOM series → a DICOM SEG with the refined organ, and one smooth mesh in world millimetres a structure."""

import json
import os
from pathlib import Path

import yaml
from bundle import Bundle, find_bundle
from highdicom.color import CIELabColor
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.dicom_utils import ModelInfo
from operators import ResultWriterOperator, SegmentAndRefineOperator, SelectSeriesOperator
from pydicom.sr.codedict import codes

SETTINGS = Path(__file__).with_name("app.yaml")
NAME = "implicit_shape_refinement"


RESULTS = ("*.dcm", "*.stl", "result.json")


class ColouredSegment(SegmentDescription):
    """The SDK's description of a segment, with the colour that viewers show it in.

    Args:
        colour: (red, green, blue), 0 to 255.
    """

    def __init__(self, colour: tuple[int, int, int], **description) -> None:
        super().__init__(**description)
        self.colour = CIELabColor.from_rgb(*colour)

    def to_segment_description(self, segment_number: int):
        """Return what highdicom writes."""
        description = super().to_segment_description(segment_number)
        description.RecommendedDisplayCIELabValue = list(self.colour.value)
        return description


def refuse_leftovers(output: Path) -> None:
    """Refuse an output folder with results: a SEG of a new name would come to lie beside that of another study.

    Raises:
        ValueError: it holds some; the first are named.
    """
    found = sorted(file.name for pattern in RESULTS for file in output.glob(pattern))
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(f"{output} holds results of another run, {', '.join(found[:3])}{more}: give an empty folder")


class RefinementApp(Application):
    """Loads a study, takes its longest series of the organ's modality, segments, refines and writes."""

    def compose(self) -> None:
        """Build the graph of operators from the settings and the command line's `-i`, `-o` and `-m`."""
        context = Application.init_app_context(self.argv)
        settings = yaml.safe_load(Path(os.environ.get("HOLOSCAN_CONFIG_PATH", SETTINGS)).read_text())
        bundle = Bundle(find_bundle(Path(context.model_path)), settings["inference"])
        output = Path(context.output_path)
        refuse_leftovers(output)
        modality = {"name": bundle.pack.name, "conditions": {"Modality": bundle.pack.modality}}

        once = CountCondition(self, 1)  # without it the graph would start over and over
        load = DICOMDataLoaderOperator(self, once, name="load", input_folder=Path(context.input_path))
        select = SelectSeriesOperator(
            self,
            name="select",
            rules=json.dumps({"selections": [modality]}),
            all_matched=True,
            sort_by_sop_instance_count=True,
        )
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        refine = SegmentAndRefineOperator(self, name="refine", bundle=bundle)
        segmentation = DICOMSegmentationWriterOperator(
            self,
            name="segmentation",
            segment_descriptions=self.segments(bundle, settings.get("segments", {})),
            output_folder=output,
            model_info=ModelInfo(creator=NAME, name=bundle.pack.name, version=bundle.version, uid=""),
            custom_tags={"SeriesDescription": f"{bundle.pack.name}, refined; research only, not for diagnosis"},
        )
        results = ResultWriterOperator(self, name="results", output_folder=output)

        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, refine, {("image", "image")})
        self.add_flow(refine, segmentation, {("pred", "seg_image")})
        self.add_flow(select, segmentation, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(refine, results, {("shapes", "shapes"), ("result", "result")})

    def segments(self, bundle: Bundle, keywords: dict[str, str]) -> list[ColouredSegment]:
        """Describe the pack's labels, which are 1, 2, … (a U-Net's channels), as segments of the same numbers."""
        return [
            ColouredSegment(
                colour=colour,
                segment_label=name,
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=getattr(codes.SCT, keywords.get(name, "Organ")),
                algorithm_name=NAME,
                algorithm_version=bundle.version,
            )
            for (_, name), colour in zip(sorted(bundle.pack.labels.items()), bundle.colours, strict=True)
        ]
