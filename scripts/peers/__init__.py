"""The networks that the paper compares with, in 3D: trained on one split and budget, and their masks refined."""
