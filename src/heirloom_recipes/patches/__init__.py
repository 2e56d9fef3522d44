"""The patch-data laboratory: Li and Li, arXiv 2410.08503, Sections 3 to 6.1."""
