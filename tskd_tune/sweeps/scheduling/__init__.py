"""Schedulers stop trials that are behind the others."""
