"""Segmentation and surface metrics."""
