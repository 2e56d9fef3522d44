"""Pre-training of encoders, clean and adversarial."""
