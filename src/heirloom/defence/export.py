"""A defence for machines without heirloom: ONNX, and PyTorch's exported programs; checked before a file is kept.

ViT-MAE's patch order is a constant of the graph for one batch size if it is made with ``len(x)``; it is made by
``expand`` from the pixels' own shape, so that any batch goes through.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import write_bytes

TOLERANCE = 1e-4
BATCHES = (1, 2, 5)  # sizes that the file is tried with; it was made with the second


def export_onnx(model: nn.Module, shape: tuple[int, int, int], path: Path) -> float:
    """Write ``model`` as ONNX with a free batch size: ``pixels`` (N, C, H, W) in [0, 1] -> ``logits``.

    Returns:
        the largest difference of a logit from PyTorch's, over several batch sizes, in onnxruntime.

    Raises:
        InputError: packages that are absent, a model that cannot be exported, logits that differ by more than 1e-4.
    """
    _needs_packages()
    example = _images(shape, BATCHES[1])
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model.onnx"
        with _one_sentence(path):
            torch.onnx.export(
                model.eval().cpu(),
                (example,),
                str(draft),
                input_names=["pixels"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        worst = _difference(model, shape, _in_onnxruntime(draft))
        _write(path, draft.read_bytes())
    return worst


def export_program(model: nn.Module, shape: tuple[int, int, int], path: Path) -> float:
    """Write ``model`` as a ``torch.export`` program (``.pt2``) with a free batch size, checked as ONNX is."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model.pt2"
        with _one_sentence(path), torch.no_grad():
            batch = {0: torch.export.Dim.DYNAMIC}
            program = torch.export.export(model.eval().cpu(), (_images(shape, 2),), dynamic_shapes=(batch,))
            torch.export.save(program, draft)
        loaded = torch.export.load(draft).module()
        worst = _difference(model, shape, lambda x: loaded(x))
        _write(path, draft.read_bytes())
    return worst


@torch.no_grad()
def _difference(model: nn.Module, shape: tuple[int, int, int], other: Callable[[Tensor], Tensor]) -> float:
    worst = 0.0
    for count in BATCHES:
        x = _images(shape, count)
        expected, found = model(x), other(x)
        same = found.shape == expected.shape and bool(found.isfinite().all())
        require(same, "exported model", f"of logits {tuple(expected.shape)}", tuple(found.shape))
        worst = max(worst, float((found - expected).abs().max()))
    require(
        worst <= TOLERANCE, "exported model", f"within {TOLERANCE:g} of PyTorch's logits", f"{worst:.3g} away"
    )
    return worst


def _images(shape: tuple[int, int, int], count: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))


def _in_onnxruntime(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"pixels": x.numpy()})
        return torch.from_numpy(np.asarray(logits))

    return run


def _needs_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("onnx", "used with heirloom-robust[onnx] installed", str(error)) from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


class _one_sentence:  # noqa: N801
    """Whatever an exporter raises, as one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            reason = " ".join(str(error).split())[:200]
            raise InputError("model", f"one that {self.path.suffix} can hold", reason) from error
