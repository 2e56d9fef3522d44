"""The papers' tables and figures: a function each, with its settings and its page."""
