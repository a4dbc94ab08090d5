"""Shape priors: linear and implicit."""
