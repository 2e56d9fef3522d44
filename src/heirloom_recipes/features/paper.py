"""Tables 1 and 2 of the paper, as shares. Its adversarial judges' figures in Table 2 are lost ("low"), and so are all
radii, iterations and the spread over its seeds.
"""

from __future__ import annotations

# (data, training) -> test accuracy, and feature learning accuracy on the two representative data sets
TABLE_1: dict[tuple[str, str], dict[str, float]] = {
    ("mnist", "standard"): {
        "clean": 0.9956,
        "robust": 0.0004,
        "non-robust features": 0.8811,
        "robust features": 0.4461,
    },
    ("mnist", "adversarial"): {
        "clean": 0.9941,
        "robust": 0.9443,
        "non-robust features": 0.3949,
        "robust features": 0.6919,
    },
    ("cifar10", "standard"): {
        "clean": 0.9574,
        "robust": 0.0,
        "non-robust features": 0.9179,
        "robust features": 0.6126,
    },
    ("cifar10", "adversarial"): {
        "clean": 0.8628,
        "robust": 0.4513,
        "non-robust features": 0.1088,
        "robust features": 0.6788,
    },
}
# (source > target) -> success of the attack on a standardly trained judge, CIFAR-10
TABLE_2: dict[str, dict[str, float]] = {
    "cat > dog": {"NRF-PGD": 0.7141, "RF-PGD": 0.0960},
    "dog > cat": {"NRF-PGD": 0.8036, "RF-PGD": 0.1516},
    "automobile > airplane": {"NRF-PGD": 0.5408, "RF-PGD": 0.0034},
    "airplane > automobile": {"NRF-PGD": 0.7674, "RF-PGD": 0.0040},
}
# class indices of the pairs; MNIST's are ours, the paper has none
PAIRS: dict[str, dict[str, tuple[int, int]]] = {
    "cifar10": {
        "cat > dog": (3, 5),
        "dog > cat": (5, 3),
        "automobile > airplane": (1, 0),
        "airplane > automobile": (0, 1),
    },
    "mnist": {"3 > 5": (3, 5), "5 > 3": (5, 3), "4 > 9": (4, 9), "9 > 4": (9, 4)},
}
