"""How good a mask is, predicted without truth."""
