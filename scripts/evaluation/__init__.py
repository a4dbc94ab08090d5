"""Scores of whole folders against the truth, and the methods to compare with."""
