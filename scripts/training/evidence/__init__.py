"""Training of evidence networks."""
