"""Cases on disk: which there are, how they are read, and how results are written."""
