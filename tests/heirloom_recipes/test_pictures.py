"""The documentation's pictures come from records, and every one is shown."""

import torch

from heirloom.report.figures import image_uri
from heirloom.results.schema import Summary
from heirloom_recipes.pictures import DRAWN, FROM_RUNS, PLACE, ROOT, of_run, pictures


def test_the_pictures_of_the_docs_are_drawn_from_the_records(tmp_path):
    assert all(place.read_bytes()[:4] == b"\x89PNG" for place in pictures(tmp_path))
    shown = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    for name in (*DRAWN, *(name for name, _ in FROM_RUNS.values())):
        assert f"pictures/{name}" in shown, name
        assert (PLACE / name).exists(), name


def test_the_paintings_are_drawn_from_a_run_that_kept_its_images(tmp_path):
    record = Summary.read(ROOT / "results" / "cropd" / "paintings-cifar10.json")
    names = ["image", *(row["defence"] for row in record.rows)]
    shown = {name: [image_uri(torch.rand(3, 32, 32))] * 8 for name in names}
    run = record.model_copy(update={"details": {**record.details, "examples": shown}})
    run.write(tmp_path / "summary.json")
    made = of_run(tmp_path, tmp_path / "drawn")
    assert made.read_bytes()[:4] == b"\x89PNG"
    assert made.name == "paintings.png"
    assert (PLACE / made.name).stat().st_size < 150_000
