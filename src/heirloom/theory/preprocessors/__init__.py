"""What CRoPD's theory (arXiv 2504.10850, section 3) says of preprocessors, as things that can be computed."""
