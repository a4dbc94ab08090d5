"""Training of voxel heads on flawed masks."""
