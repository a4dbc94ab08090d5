"""Methods to compare the refinement with."""
