"""A frozen foundation model, what stands in front of it, and the whole that is attacked."""
