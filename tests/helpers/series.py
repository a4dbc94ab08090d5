"""A NIfTI volume as a DICOM series that writers of derived objects accept."""

from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

from tests.helpers.publishers import LPS, write_series

SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
CT_OFFSET = 1024  # what scanners add to HU


def write_host_series(folder: Path, volume: Path, modality: str = "MR") -> None:
    """Write a volume of whole numbers, whose axes are right-handed, slice by slice.

    Columns, rows and slices are the volume's three axes, so that a reader gives the volume's own array and affine back.
    Stored values are the volume's own (MR) or 1024 more, with the intercept -1024 (CT).
    """
    image = nib.load(volume)
    offset = CT_OFFSET if modality == "CT" else 0
    values = np.asarray(image.dataobj).astype(np.int32)
    if np.linalg.det(image.affine[:3, :3]) <= 0 or values.min() + offset < 0:
        raise ValueError(f"{volume}: as {modality}, its axes must be right-handed and no value below {-offset}")
    write_series(
        folder,
        values + offset - CT_OFFSET,
        LPS @ image.affine,
        SOPClassUID=SOP_CLASSES[modality],
        Modality=modality,
        RescaleIntercept=str(-offset),
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"],
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
