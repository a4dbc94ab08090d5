"""Frames, surfaces, distances and alignment."""
