"""Li and Li, "Adversarial Training Can Provably Improve Robustness", arXiv 2410.08503: real images.

``heirloom reproduce features/table-1 --scale small`` and so on; :mod:`.laboratory` trains the networks that all tables
share, :mod:`.paper` holds the published figures and :mod:`.scales` the settings.
"""
