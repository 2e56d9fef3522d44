"""Exported defences: any batch size, the same logits, no file that was not checked."""

from pathlib import Path

import pytest
import torch
from torch import nn

from heirloom import InputError
from heirloom.defence.export import export_onnx, export_program
from heirloom.models.defended import Defended
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.models.preprocessor import build_preprocessor
from tests.models.zoo import VIT, ZOO, Animal, build

MAE = Animal("ViTMAEConfig", VIT, "ViTMAEModel", "ViTImageProcessor", ZOO["vit"].fields, ZOO["vit"].features)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Defended:
    place = tmp_path_factory.mktemp("mae")
    build(MAE, place)
    head = nn.Linear(16, 3)
    return Defended(build_preprocessor("conv", (3, 24, 24)), load_encoder(EncoderSettings(str(place))), head)


def test_onnx_of_a_masked_autoencoder_takes_any_batch(whole: Defended, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert export_onnx(whole, (3, 24, 24), tmp_path / "new" / "a.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "new" / "a.onnx"))
    x = torch.rand(7, 3, 24, 24, generator=torch.Generator().manual_seed(9))
    (logits,) = session.run(None, {"pixels": x.numpy()})
    assert torch.allclose(torch.from_numpy(logits), whole(x), atol=1e-4)


def test_a_program_takes_any_batch(whole: Defended, tmp_path: Path) -> None:
    assert export_program(whole, (3, 24, 24), tmp_path / "a.pt2") < 1e-4
    loaded = torch.export.load(tmp_path / "a.pt2").module()
    x = torch.rand(7, 3, 24, 24, generator=torch.Generator().manual_seed(9))
    assert torch.allclose(loaded(x), whole(x), atol=1e-4)


class _Forgetful(nn.Module):
    """Another answer every time: what is written cannot be what is checked."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :3] + torch.rand(3)


def test_nothing_unchecked_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"within 0\.0001 of PyTorch's logits"):
        export_program(_Forgetful(), (1, 2, 2), tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())
