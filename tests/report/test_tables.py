"""Cells as a person reads them."""

from typing import Any

import pytest

from heirloom.report.tables import accuracy_table, shown


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ({"value": 0.5, "low": 0.4, "high": 0.61, "n": 90}, "50.0 [40.0, 61.0]"),
        ({"value": 7.034, "low": 6.3, "high": 7.7, "n": 3}, "7.034 [6.3, 7.7]"),  # no share of anything
        ({"value": -0.02, "low": -0.1, "high": 0.05, "n": 90}, "-0.02 [-0.1, 0.05]"),
        ({"value": 1.5, "sd": 0.25, "n": 3}, "1.5 ± 0.25"),
        (0.123456, "0.1235"),
        ("cropd", "cropd"),
    ],
)
def test_cells_show_values_with_their_intervals(value: Any, cell: str) -> None:
    assert shown(value) == cell


def test_accuracy_table_keeps_the_order_of_the_attacks() -> None:
    half = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    columns, rows = accuracy_table([{"defence": "cropd", "clean": half, "seconds": 3.0, "pgd-20": half}])
    assert columns == ["defence", "clean", "PGD-20"]
    assert rows == [["cropd", "50.0 [40.0, 60.0]", "50.0 [40.0, 60.0]"]]
