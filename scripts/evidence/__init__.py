"""What an image says of a voxel, beside mask and fit; and what the network that made the mask says."""
