"""The search space: what a sweep may vary, and the points that it holds."""
