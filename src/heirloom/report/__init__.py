"""Result JSON -> one self-contained HTML page."""

from heirloom.report.page import Figure, Images, Section, Table, Text, page

__all__ = ["Figure", "Images", "Section", "Table", "Text", "page"]
