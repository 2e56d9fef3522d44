"""Foundation models of Transformers: their weights, their image processors, and how features are read of them."""
