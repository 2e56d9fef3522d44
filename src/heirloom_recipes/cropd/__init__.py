"""CRoPD (Liu, Huang and Xing, arXiv 2504.10850): its tables, and how they can come about."""
