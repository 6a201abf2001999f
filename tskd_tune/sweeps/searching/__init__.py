"""Searchers choose the points that are trained, and learn from the results of a run."""
