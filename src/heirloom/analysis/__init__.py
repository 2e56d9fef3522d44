"""Tensors in, numbers out: what is measured of weights, filters and features."""
