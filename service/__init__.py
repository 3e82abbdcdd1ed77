"""Footfall: per-user e-commerce analytics that costs nothing while nobody shops."""

__version__ = "0.1.0"
