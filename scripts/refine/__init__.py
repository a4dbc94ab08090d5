"""The refinement chain."""
