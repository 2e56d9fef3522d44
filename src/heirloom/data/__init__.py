"""Labelled images from any source, read, labelled, augmented."""
