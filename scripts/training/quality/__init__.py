"""Training of the predictor of a mask's quality."""
