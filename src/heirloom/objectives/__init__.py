"""Objectives: losses on tensors, one method a file. They never call attacks."""
