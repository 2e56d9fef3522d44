"""The one schema of a result, where its numbers come from, and their statistics."""
