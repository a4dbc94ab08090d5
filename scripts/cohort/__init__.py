"""The cases of a run on Dask; needs requirements-cohort.txt."""
