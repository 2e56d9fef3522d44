"""Supervised losses on logits: cross-entropy (clean and adversarial training) and TRADES.

Madry et al., ICLR 2018: adversarial training is cross-entropy on adversarial images. TRADES: Zhang, Yu, Jiao,
Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, y: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of logits (N, classes) and labels (N,), in nats.

    With logits of adversarial images this is the loss of adversarial training (Madry et al., equation 2.1).
    """
    return functional.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)


def trades(clean_logits: Tensor, adversarial_logits: Tensor, y: Tensor, *, beta: float = 6.0) -> Tensor:
    """``CE(clean, y) + beta KL(p_clean || p_adversarial)``, each a mean over the batch (equation 5).

    Args:
        clean_logits, adversarial_logits: (N, classes); gradients flow through both.
        beta: the paper's 1 / lambda; 6 is its setting for CIFAR-10.
    """
    divergence = kl_divergence(adversarial_logits, clean_logits).mean()
    return cross_entropy(clean_logits, y) + beta * divergence


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """``KL(softmax(reference) || softmax(logits))`` of each example, shape (N,), in nats.

    With ``reference`` the detached clean logits, this is what the attack of TRADES maximises.
    """
    target = functional.log_softmax(reference.float(), dim=1)
    found = functional.log_softmax(logits.float(), dim=1)
    return functional.kl_div(found, target, reduction="none", log_target=True).sum(1)
