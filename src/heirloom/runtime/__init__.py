"""Errors, files, randomness, devices, processes: what everything else stands on."""
