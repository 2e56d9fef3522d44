"""``heirloom predict``: classify image files with a saved defence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[str, typer.Argument(help="Folder or hub id of a saved defence.", show_default=False)],
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    top: Annotated[int, typer.Option(help="Classes told of each image.")] = 1,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run the code of a factory that MODEL names.")
    ] = False,
) -> None:
    """Classify image files: one line each, the file, then classes with their probabilities."""
    from heirloom.data.pictures import read_pictures
    from heirloom.defence.saved import DefendedModel
    from heirloom.runtime.errors import require

    require(top >= 1, "--top", "at least 1", top)
    defended = DefendedModel.from_pretrained(model, trust_remote_code=trust_remote_code)
    _, probabilities = defended.predict(read_pictures(images, defended.image_shape))
    for path, row in zip(images, probabilities, strict=True):
        best = row.topk(min(top, len(row)))
        told = [
            f"{defended.classes[i]} {p:.3f}"
            for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        print("\t".join([str(path), *told]))
