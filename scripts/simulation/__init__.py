"""Label maps with simulated errors."""
