"""Organ packs: what the bundle knows of an organ."""
