"""Training of shape priors and joint models."""
