"""The one module that is attacked: preprocessor, encoder and head."""

from __future__ import annotations

from torch import Tensor, nn


class Defended(nn.Module):
    """The whole that is attacked: [0, 1] pixels -> preprocessor -> encoder -> head -> logits (N, classes)."""

    def __init__(self, preprocessor: nn.Module, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.preprocessor, self.encoder, self.head = preprocessor, encoder, head
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """(N, D): the foundation model's features of what the preprocessor makes of ``x``."""
        return self.encoder(self.preprocessor(x))
