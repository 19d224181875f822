"""Loaders of other projects and the product's own, each run as a process of its own by `loaders.py`."""
