"""``heirloom predict``: classify image files with a saved defence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from heirloom.cli.voice import voice


def predict(
    model: Annotated[str, typer.Argument(help="Folder or hub id of a saved defence.", show_default=False)],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of them.", show_default=False)
    ],
    top: Annotated[int, typer.Option(help="Classes told of each image.")] = 1,
    json_lines: Annotated[
        bool, typer.Option(help="One JSON object a line, as soon as it is known; --json: one list of all.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Images that go through the model together.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run the code of a factory that MODEL names.")
    ] = False,
) -> None:
    """Classify image files: one line each, the file, then classes with their probabilities."""
    from heirloom.data.pictures import picture_files, read_pictures
    from heirloom.defence.saved import DefendedModel
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import require

    require(top >= 1, "top", "at least 1", top)
    require(batch_size >= 1, "batch_size", "at least 1", batch_size)
    place = torch_device(device)
    files = picture_files(images)
    defended = DefendedModel.from_pretrained(model, trust_remote_code=trust_remote_code).to(place)
    told: list[dict[str, Any]] = []
    for start in range(0, len(files), batch_size):
        batch = files[start : start + batch_size]
        pixels = read_pictures(batch, defended.image_shape).to(place)
        _, probabilities = defended.predict(pixels)
        for path, row in zip(batch, probabilities.cpu(), strict=True):
            best = row.topk(min(top, len(row)))
            classes = [defended.classes[i] for i in best.indices.tolist()]
            pairs = list(zip(classes, best.values.tolist(), strict=True))
            shown = [{"class": name, "probability": round(value, 6)} for name, value in pairs]
            found: dict[str, Any] = {"file": str(path), "predictions": shown}
            if voice().as_json:
                told.append(found)
            words = "\t".join([str(path), *(f"{name} {value:.3f}" for name, value in pairs)])
            print(json.dumps(found) if json_lines else words, flush=True)
    voice().document = told
