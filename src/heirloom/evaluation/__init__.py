"""Figures that can be trusted: verdicts (worst case per example), statistics (intervals), audit."""
