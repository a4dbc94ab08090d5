"""A NIfTI volume as a DICOM MR series that writers of derived objects accept."""

from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.uid import MRImageStorage, generate_uid

from tests.data.made_up import LPS, write_series


def write_mr_series(folder: Path, volume: Path, modality: str = "MR", sop_class: str = MRImageStorage) -> None:
    """Write a volume of whole numbers, whose axes are right-handed, slice by slice; without rescaling unless negative.

    Columns, rows and slices are the volume's three axes, so that a reader gives the volume's own array and affine back.
    """
    image = nib.load(volume)
    values = np.asarray(image.dataobj)
    offset = 1024 if values.min() < 0 else 0
    write_series(
        folder,
        values + offset - 1024,
        LPS @ image.affine,
        SOPClassUID=sop_class,
        Modality=modality,
        RescaleIntercept=str(-offset),
        ImageType=["ORIGINAL", "PRIMARY", "OTHER"],
        PatientName="Made^Up",
        PatientID="made-up",
        PatientBirthDate="",
        PatientSex="O",
        PatientPosition="HFS",
        StudyInstanceUID=generate_uid(entropy_srcs=[str(volume), "study"]),
        StudyID="1",
        StudyDate="20200101",
        StudyTime="120000",
        StudyDescription="made up",
        AccessionNumber="",
        ReferringPhysicianName="",
        SeriesInstanceUID=generate_uid(entropy_srcs=[str(volume), "series"]),
        SeriesNumber=1,
        SeriesDescription=volume.name,
        FrameOfReferenceUID=generate_uid(entropy_srcs=[str(volume), "frame"]),
        PositionReferenceIndicator="",
        Manufacturer="",
        SliceThickness=f"{np.linalg.norm(image.affine[:3, 2]):.6g}",
    )
