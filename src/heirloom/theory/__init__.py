"""The theory laboratories."""
