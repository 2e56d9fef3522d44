"""The app as served: through its client always, in a real browser where there is one."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heirloom.show.attacked import TARGETS, Asked, attack_sample
from heirloom.show.opened import Opened, Sample, as_array, open_folders, samples

gradio_client = pytest.importorskip("gradio_client", reason="[app] is not installed")


@pytest.fixture(scope="module")
def opened(saved: list[Path]) -> list[Opened]:
    return open_folders(saved)


@pytest.fixture(scope="module")
def pictures(opened: list[Opened]) -> list[Sample]:
    return samples(opened[0])


@pytest.fixture(scope="module")
def served(opened: list[Opened], pictures: list[Sample]) -> Iterator[str]:
    from heirloom.show.app import build_app, launch

    app = build_app(opened, pictures)
    yield launch(app, wait=False)
    app.close()


@pytest.fixture(scope="module")
def client(served: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return gradio_client.Client(served, verbose=False, download_files=str(tmp_path_factory.mktemp("got")))


def _asked(pictures: list[Sample], **changes: Any) -> list[Any]:
    given = {
        "defence": "one",
        "picked": pictures[0].name,
        "upload": None,
        "attack": "PGD",
        "eps": 0.1,
        "steps": 5,
    }
    return [*({**given, **changes}).values(), TARGETS[0]]


def test_it_listens_on_this_machine_alone(served: str) -> None:
    assert served.startswith("http://127.0.0.1:")


def test_a_downloaded_adversarial_picture_is_the_adversarial_picture(
    client: Any, opened: list[Opened], pictures: list[Sample]
) -> None:
    words, *shown = client.predict(*_asked(pictures), api_name="/attack")
    outcome = attack_sample(opened[0], pictures[0], Asked("PGD", 0.1, 5))
    assert Path(shown[1]["path"] if isinstance(shown[1], dict) else shown[1]).suffix == ".png"
    for got, pixels in zip(shown[:2], (outcome.before, outcome.after), strict=True):
        path = got["path"] if isinstance(got, dict) else got
        assert np.array_equal(np.asarray(Image.open(path)), as_array(pixels))
    with_defence = {item["label"]: item["confidence"] for item in shown[6]["confidences"]}
    best = int(outcome.probabilities["with"][1].argmax())
    assert with_defence[opened[0].model.classes[best]] == pytest.approx(
        float(outcome.probabilities["with"][1][best]), abs=1e-5
    )
    assert "With the defence" in words


def test_an_upload_and_the_comparison(
    client: Any, opened: list[Opened], pictures: list[Sample], tmp_path: Path
) -> None:
    Image.fromarray(as_array(pictures[2].pixels)).save(tmp_path / "own.png")
    upload = gradio_client.handle_file(str(tmp_path / "own.png"))
    words, before, *_ = client.predict(*_asked(pictures, upload=upload), api_name="/attack")
    assert "true class is not known" in words
    path = before["path"] if isinstance(before, dict) else before
    assert np.array_equal(np.asarray(Image.open(path)), as_array(pictures[2].pixels))
    table, gallery = client.predict(*_asked(pictures)[1:], api_name="/compare")
    assert [row[0] for row in table["data"]] == ["one", "two"]
    assert len(gallery) == 2


@pytest.mark.slow
def test_in_a_real_browser(served: str, opened: list[Opened], pictures: list[Sample], tmp_path: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    asked: list[str] = []
    complaints: list[str] = []
    with sync.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1500})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(served)
        words = page.locator("#verdict")
        words.get_by_text("With the defence").wait_for(timeout=60_000)
        before = words.inner_text()
        _slide(page, "eps", 0.4)
        page.wait_for_function(
            "before => !document.querySelector('#verdict').innerText.includes(before)",
            arg=before.partition("The change")[2] or before,
            timeout=60_000,
        )
        page.wait_for_function("document.querySelector('#verdict').innerText.includes('of at most 0.4')")
        with page.expect_download() as download:
            page.get_by_label("Download").nth(1).click()
        download.value.save_as(tmp_path / "after.png")
        height = page.locator(".picture img").first.evaluate("image => image.getBoundingClientRect().height")
        page.get_by_role("tab", name="Figures").click()
        page.get_by_text("Each column is the worst case").first.wait_for()
        page.screenshot(path=tmp_path / "figures.png")
        browser.close()
    outcome = attack_sample(opened[0], pictures[0], Asked("PGD", 0.4, 20))
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "after.png").convert("L")), as_array(outcome.after)
    )
    assert height > 100
    assert complaints == []
    outside = [url for url in asked if not url.startswith((served, "data:", "blob:"))]
    assert outside == []


def _slide(page: Any, label: str, value: float) -> None:
    """Set a slider as a user does who lets it go: value, input, then the pointer up."""
    page.evaluate(
        """([label, value]) => {
            const found = [...document.querySelectorAll('input[type=range]')]
                .find(each => each.getAttribute('aria-label').includes(label));
            found.value = value;
            found.dispatchEvent(new Event('input', { bubbles: true }));
            found.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
        }""",
        [label, value],
    )
