"""First-layer filters: measured, drawn, side by side and over epochs."""
