"""Validation of a shape prior on shapes that it has not seen."""
