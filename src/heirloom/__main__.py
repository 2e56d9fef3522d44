"""``python -m heirloom``."""

from heirloom.cli import main

main()
