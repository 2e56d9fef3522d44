"""``heirloom export``: a saved defence as ONNX or as a PyTorch program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heirloom.cli.voice import voice


def export(
    model: Annotated[str, typer.Argument(help="Folder or hub id of a saved defence.", show_default=False)],
    onnx: Annotated[Path | None, typer.Option(help="ONNX file to write (needs [onnx]).")] = None,
    program: Annotated[Path | None, typer.Option(help="torch.export file (.pt2) to write.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run the code of a factory that MODEL names.")
    ] = False,
) -> None:
    """Write a saved defence as one file, any batch size, checked against PyTorch before it is kept."""
    from heirloom.defence.export import export_onnx, export_program
    from heirloom.defence.saved import DefendedModel
    from heirloom.runtime.errors import require

    require(onnx is not None or program is not None, "onnx", "given, or --program", "neither")
    defended = DefendedModel.from_pretrained(model, trust_remote_code=trust_remote_code)
    written: list[dict[str, Any]] = []
    for path, write in ((onnx, export_onnx), (program, export_program)):
        if path is not None:
            worst = write(defended, defended.image_shape, path)
            written.append({"file": str(path), "largest_difference": worst})
            print(
                f"{path}: pixels (N, {', '.join(map(str, defended.image_shape))}) in [0, 1] -> logits; ",
                end="",
            )
            print(f"at most {worst:.1e} from PyTorch's")
    voice().document = {"input": list(defended.image_shape), "files": written}
