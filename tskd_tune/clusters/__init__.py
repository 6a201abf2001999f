"""Cluster files of Ray: filled in from templates, checked, and what a cluster on AWS needs beforehand."""
