"""Robust and non-robust features on patch data (Li and Li, arXiv 2410.08503)."""
