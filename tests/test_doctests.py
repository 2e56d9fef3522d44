"""The examples in docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest

import heirloom

SOURCE = Path(heirloom.__file__).parents[1]
WITH_EXAMPLES = sorted(path for path in SOURCE.rglob("*.py") if ">>> " in path.read_text())


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings_run(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    failures, examples = doctest.testmod(module)
    assert examples > 0
    assert failures == 0
