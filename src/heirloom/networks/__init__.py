"""Architectures only: no weights are loaded and nothing is trained here."""
