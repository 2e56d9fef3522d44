"""Robust and non-robust data sets, made by inverting a network's representations."""
