"""Xing et al., "Better Representations via Adversarial Training in Pre-Training", AISTATS 2024: real images.

``heirloom reproduce inheritance/table-1 --scale small`` and so on; see :mod:`.run` for what a recipe does,
:mod:`.paper` for the published figures and :mod:`.scales` for the settings.
"""
