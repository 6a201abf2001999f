"""Sweeps of Temporal Supervised Knowledge Distillation (TSKD), and the training that they sweep over."""

__version__ = "0.1.0"
