"""What the image says: a small network that reads image, mask and prior fit together."""
