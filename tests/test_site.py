"""The docs site, the notebook and the release files: built at a small size, and what is broken is told."""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from heirloom_recipes.results_page import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    return _script("docs")


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_site_builds_and_nothing_is_broken(docs: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("zensical", reason="[docs] is not installed")
    assert docs.main(["--records", "2"]) == 0, capfd.readouterr()
    page = (docs.SITE / "notebook.html").read_text()
    assert "With the defence" in page  # the notebook ran to its end
    assert len(re.findall(r'<img[^>]*src="notebook/', page)) >= 2
    assert json.loads((docs.SOURCE / "model_and_folder.ipynb").read_text())["cells"]
    commands = (docs.SITE / "command-line.html").read_text()
    assert "--attack-dtype" in commands
    assert 'id="heirloom-theory-patches-phases"' in commands
    assert "records/" in (docs.SITE / "gallery.html").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)[^\"']*\.(?:css|js|woff2?)\b", page)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('<a href="other.html">', "other.html leads nowhere"),
        ('<a href="#there">', "#there names an anchor"),
        ('<img src="no.png">', "no.png leads nowhere"),
        ('<img src="https://example.org/a.png">', "from elsewhere"),
        ('<script src="//example.org/a.js"></script>', "from elsewhere"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "from elsewhere"),
    ],
)
def test_what_is_broken_is_told(docs: ModuleType, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f'<html><a id="here" href="#here"></a>{content}</html>')
    (found,) = docs.broken(tmp_path)[:1]
    assert said in found


def test_links_that_leave_the_docs_lead_to_the_repository(docs: ModuleType) -> None:
    origin = ROOT / "docs" / "trust.md"
    home = docs.repository()
    assert docs.outward("[a](../results/x)", origin) == "[a](../results/x)"  # nothing there: told as broken
    assert docs.outward("[a](../Makefile)", origin) == f"[a]({home}/blob/main/Makefile)"
    assert docs.outward("[a](../CONTRIBUTING.md)", origin) == "[a](CONTRIBUTING.md)"
    assert docs.outward("[a](attacks.md#speed)", origin) == "[a](attacks.md#speed)"
    assert docs.outward("[a](docs/trust.md)", ROOT / "SECURITY.md") == "[a](trust.md)"


def test_the_page_on_the_index_has_absolute_links() -> None:
    sys.path.insert(0, str(ROOT))
    pytest.importorskip("hatchling", reason="the build's own package")
    from hatch_build import absolute

    text = "[a](docs/x.md#y) ![b](docs/p.png) [c](https://e.org) [d](#e) [![p](p.png)](docs/q.md)"
    assert absolute(text, "https://h", "1.0").split(" ")[:4] == [
        "[a](https://h/blob/v1.0/docs/x.md#y)",
        "![b](https://h/raw/v1.0/docs/p.png)",
        "[c](https://e.org)",
        "[d](#e)",
    ]


def test_version_changelog_and_citation_agree() -> None:
    from importlib.metadata import version

    release = _script("release")
    assert release.checked_version() == version("heirloom-robust")


def test_the_real_address_goes_to_its_one_place(tmp_path: Path) -> None:
    release, project = _script("release"), tmp_path / "pyproject.toml"
    project.write_text((ROOT / "pyproject.toml").read_text())
    for wrong in ("heirloom", "http://h.org/a", "https://h.org", "https://h.org/a b", "https://h.org/a/"):
        with pytest.raises(SystemExit, match="--address must be"):
            release.set_address(project, wrong)
    assert project.read_text() == (ROOT / "pyproject.toml").read_text()
    release.set_address(project, "https://code.test.org/people/heirloom")
    urls = tomllib.loads(project.read_text())["project"]["urls"]
    assert {url.partition("/heirloom")[0] for url in urls.values()} == {"https://code.test.org/people"}


@pytest.mark.parametrize(
    "name", ["CHANGELOG.md", "CITATION.cff", "SECURITY.md", "CONTRIBUTING.md", "LICENSE"]
)
def test_release_files_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 200
