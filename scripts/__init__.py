"""Implicit shape refinement: geometry, prior, refine, metrics, report."""
