"""Attacks made for one defence out of what the audit found about it."""
