"""What attacks share: gradients, regions, rows, and cheaper passes."""
