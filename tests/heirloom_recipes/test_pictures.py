"""The documentation's pictures come from records, and every one is shown."""

from heirloom_recipes.pictures import DRAWN, PLACE, ROOT, pictures


def test_the_pictures_of_the_docs_are_drawn_from_the_records(tmp_path):
    assert all(place.read_bytes()[:4] == b"\x89PNG" for place in pictures(tmp_path))
    shown = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    for name in DRAWN:
        assert f"pictures/{name}" in shown, name
        assert (PLACE / name).exists(), name
