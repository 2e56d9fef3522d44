"""Losses on tensors, one method a file. They never call an attack."""
