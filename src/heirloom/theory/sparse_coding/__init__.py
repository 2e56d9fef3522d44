"""Purification and inheritance on sparse coding data (Xing et al., AISTATS 2024)."""
