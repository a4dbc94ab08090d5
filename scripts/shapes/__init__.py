"""From label maps to the samples that a prior learns from."""
