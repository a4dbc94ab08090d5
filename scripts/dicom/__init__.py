"""DICOM: series as volumes, and masks as SEG and RTSTRUCT."""
