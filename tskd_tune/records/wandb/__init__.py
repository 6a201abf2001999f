"""Weights & Biases: its server, its rules, its runs, and what it leaves behind."""
