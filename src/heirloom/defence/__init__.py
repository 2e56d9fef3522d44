"""The main job: a preprocessor in front of a frozen model."""
