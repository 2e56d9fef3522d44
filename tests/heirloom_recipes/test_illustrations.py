"""Figures that explain: computed, not drawn by hand, so that what they claim can be checked."""

from pathlib import Path

import pytest

from heirloom import InputError
from heirloom_recipes.catalogue import recipe_of


def rows(name: str, out: Path) -> list[dict]:
    summary = recipe_of(name).make("small", out)
    page = (out / name.partition("/")[2] / "report.html").read_text()
    assert page.count("<figure") == 1
    assert summary.details["title"] in page
    return list(summary.rows)


def test_a_gradient_attack_moves_inactive_features_of_unpurified_nodes_alone(tmp_path: Path) -> None:
    found = {
        (row["nodes"], row["attack"], row["eps"]): row["share on inactive features"]
        for row in rows("inheritance/figure-2", tmp_path)
    }
    for eps in (0.05, 0.3):
        assert found["purified", "FGM", eps] == 0
        assert found["unpurified", "FGM", eps] > 0.3
    assert found["purified", "gate-aware", 0.05] == 0  # no gate opens: the paper's figure holds
    assert found["purified", "gate-aware", 0.3] > 0.3  # gates open: it does not


def test_dissimilar_pairs_are_what_an_attack_reaches(tmp_path: Path) -> None:
    similar, dissimilar = rows("inheritance/figure-3", tmp_path)
    assert 0 <= similar["added"] < 0.01 < 0.1 < dissimilar["added"]


def test_every_feature_is_spread_over_all_that_is_observed(tmp_path: Path) -> None:
    x, z, back = (row["entries that are not 0"] for row in rows("inheritance/figure-1", tmp_path))
    assert (x, z, back) == (3, 12, 3)


def test_the_perturbation_knows_no_network_and_fools_those_of_non_robust_filters(tmp_path: Path) -> None:
    robust, non_robust = rows("features/figure-2", tmp_path)
    assert robust["as it is"] == non_robust["as it is"] == 1
    assert robust["perturbed (Theorem 4.3)"] == robust["robust features only"] == 1
    assert non_robust["perturbed (Theorem 4.3)"] == 0
    assert non_robust["robust features only"] < 0.5 < non_robust["non-robust features only"]
    assert len(rows("features/figure-1", tmp_path)) == 2


def test_filters_of_a_data_set_that_the_scale_lacks_ask_for_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data must be cifar100=SOURCE"):
        recipe_of("inheritance/figure-6").make("small", tmp_path)
