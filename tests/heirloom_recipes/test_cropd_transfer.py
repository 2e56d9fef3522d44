"""A saved defence is judged elsewhere as the recipe's own preprocessors are, within the threat that it was made for."""

from pathlib import Path

import pytest
from torch import nn

from heirloom import InputError
from heirloom.data.labelled import ImageSource
from heirloom.defence.saved import DefendedModel
from heirloom.defence.settings import DistilSettings, PreprocessorSettings
from heirloom.defence.train_preprocessor import fresh_preprocessor
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom_recipes.cropd import transfer as made
from heirloom_recipes.cropd.transfer import transfer
from heirloom_recipes.cropd.transfer_page import printed, transfer_page


def test_a_saved_defence_is_judged_elsewhere(
    digits: ImageSource, foundation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, data = load_encoder(EncoderSettings(str(foundation))), digits.train.limit(64)
    settings = PreprocessorSettings("distil", distil=DistilSettings(width=4))
    size = encoder(data.images[:1]).shape[1]
    saved = DefendedModel(
        fresh_preprocessor(data, settings, encoder).eval(),
        encoder,
        nn.Linear(size, 10),
        image_shape=(1, 8, 8),
        classes=digits.train.classes,
        defence={"method": "distil", "threat": {"norm": "Linf", "eps": 0.1}},
    )
    saved.save_pretrained(tmp_path / "saved")
    chosen = tuple(place for place in made.PLACES if place.name in ("as trained", "another model", "L2"))
    monkeypatch.setattr(made, "PLACES", chosen)
    monkeypatch.setattr("heirloom_recipes.cropd.transfer_page.PLACES", chosen)
    summary = transfer("smoke", tmp_path, sources={"defence": str(tmp_path / "saved")})
    assert (summary.threat.norm, summary.threat.eps) == ("Linf", 0.1)  # its own, not the data's usual one
    assert [row["defence"] for row in summary.rows] == ["identity", "distil", "student alone"]
    places = {row["defence"]: row["places"] for row in summary.rows}
    assert all(places["distil"].values())
    assert places["student alone"]["another model"] is None
    assert places["identity"]["as trained"] != places["identity"]["another model"]
    assert len(printed(summary)[0].rows) == 3
    assert "Does a preprocessor transfer?" in transfer_page(summary)
    assert (tmp_path / "transfer" / "summary.json").exists()
    DefendedModel(**{**_parts(saved), "preprocessor": nn.Identity()}).save_pretrained(tmp_path / "encoder")
    for name, said in (
        ("nowhere", "heirloom defend wrote, got"),
        ("encoder", "nothing in front of its model"),
    ):
        with pytest.raises(InputError, match=f"defence must be a folder that .*{said}"):
            transfer("smoke", tmp_path / "new", sources={"defence": str(tmp_path / name)})
    other = tmp_path / "other"
    replaced = DefendedModel(**{**_parts(saved), "image_shape": (1, 16, 16)})
    replaced.save_pretrained(other)
    with pytest.raises(InputError, match="defence must be made for images of"):
        transfer("smoke", tmp_path / "two", sources={"defence": str(other)})


def _parts(saved: DefendedModel) -> dict[str, object]:
    names = ("preprocessor", "encoder", "head", "image_shape", "classes", "defence")
    return {name: getattr(saved, name) for name in names}
