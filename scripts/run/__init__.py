"""A run: what is asked for, and the evaluator that goes through its cases."""
