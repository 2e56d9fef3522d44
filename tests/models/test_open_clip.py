"""Robust CLIPs: open_clip's visual weights in a CLIP of Transformers give open_clip's features."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from heirloom import InputError
from heirloom.models.encoder import EncoderSettings, load_encoder
from tests.models.zoo import COLOURS, SIDE, ZOO, Animal, build

WIDTH, LAYERS, HEADS, PATCH, DIM = 16, 2, 2, 4, 16


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.activation = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), activation
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        layers = (("c_fc", nn.Linear(WIDTH, 24)), ("c_proj", nn.Linear(24, WIDTH)))
        self.mlp = nn.ModuleDict(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp["c_proj"](self.activation(self.mlp["c_fc"](self.ln_2(x))))


class Visual(nn.Module):
    """open_clip's VisionTransformer from its description: [-, +] pixels -> (N, DIM)."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.ModuleDict(
            {"resblocks": nn.ModuleList(Block(activation) for _ in range(LAYERS))}
        )
        self.proj = nn.Parameter(torch.randn(WIDTH, DIM) / WIDTH**0.5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        tokens = (
            torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], 1) + self.positional_embedding
        )
        tokens = self.ln_pre(tokens)
        for block in self.transformer["resblocks"]:
            tokens = block(tokens)
        return self.ln_post(tokens[:, 0]) @ self.proj


@torch.no_grad()
def _visual(activation: Callable[[Tensor], Tensor]) -> Visual:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Visual(activation)
        for value in model.parameters():
            if value.ndim == 1:
                value.add_(0.3 * torch.randn_like(value))
    return model.eval()


def _clip(folder: Path, activation: str) -> None:
    known = ZOO["clip"]
    settings = {**known.settings, "projection_dim": DIM}
    settings["vision_config"] = {**settings["vision_config"], "hidden_act": activation}
    build(Animal(**{**vars(known), "settings": settings}), folder)


def _normalised(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(COLOURS[name]).view(1, 3, 1, 1) for name in ("image_mean", "image_std"))
    return (x - mean) / std


@pytest.mark.parametrize(
    ("activation", "named", "prefix", "ending"),
    [
        (quick_gelu, "quick_gelu", "", ".pt"),
        (functional.gelu, "gelu", "visual.", ".safetensors"),
        (quick_gelu, "quick_gelu", "module.visual.", ".wrapped.pt"),
    ],
)
def test_features_are_those_of_open_clip(
    activation: Callable[[Tensor], Tensor],
    named: str,
    prefix: str,
    ending: str,
    tmp_path: Path,
    generator: torch.Generator,
) -> None:
    _clip(tmp_path / "clip", named)
    theirs, file = _visual(activation), tmp_path / f"robust{ending}"
    state = {f"{prefix}{name}": value for name, value in theirs.state_dict().items()}
    if ending == ".safetensors":
        state |= {"token_embedding.weight": torch.zeros(2, 2)}  # of the text side, which is left alone
        save_file(state, file)
    else:
        torch.save({"epoch": 3, "state_dict": state} if "wrapped" in ending else state, file)
    x = torch.rand(3, 3, SIDE, SIDE, generator=generator)
    expected = theirs(_normalised(x)).detach()
    source = EncoderSettings(str(tmp_path / "clip"), pooling="image-text", vision_weights=str(file))
    whole = load_encoder(source)
    assert torch.allclose(whole(x), functional.normalize(expected), atol=1e-5)
    assert not torch.allclose(
        load_encoder(EncoderSettings(str(tmp_path / "clip"), pooling="image-text"))(x), whole(x)
    )
    tower = load_encoder(EncoderSettings(str(tmp_path / "clip"), vision_weights=str(file)))
    assert tower.reading.kind == "pooler"
    assert torch.allclose(tower(x) @ theirs.proj, expected, atol=1e-5)
    whole.save(tmp_path / "saved")
    again = load_encoder(EncoderSettings(str(tmp_path / "saved"), pooling="image-text"))
    assert torch.equal(again(x), whole(x))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "none for post_layernorm"),
        ("size", r"\(9, 16\) for embeddings.position_embedding.weight \(17, 16\)"),
        ("other", "visual weights of open_clip"),
        ("code", "a file of tensors alone"),
        ("nothing", "an existing file"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: str, said: str, tmp_path: Path) -> None:
    _clip(tmp_path / "clip", "quick_gelu")
    state, file = dict(_visual(quick_gelu).state_dict()), tmp_path / "robust.pt"
    if change == "missing":
        del state["ln_post.weight"]
    elif change == "size":
        state["positional_embedding"] = state["positional_embedding"][:9]
    elif change == "other":
        state = {"head.weight": torch.zeros(2)}
    if change == "code":
        torch.save(Path, file)  # pickled code
    elif change != "nothing":
        torch.save(state, file)
    with pytest.raises(InputError, match=said) as raised:
        load_encoder(EncoderSettings(str(tmp_path / "clip"), vision_weights=str(file)))
    assert raised.value.argument == "vision_weights"


def test_only_a_clip_takes_them(tmp_path: Path) -> None:
    build(ZOO["resnet"], tmp_path / "resnet")
    torch.save(_visual(quick_gelu).state_dict(), tmp_path / "robust.pt")
    with pytest.raises(InputError, match="used with a CLIP model"):
        load_encoder(EncoderSettings(str(tmp_path / "resnet"), vision_weights=str(tmp_path / "robust.pt")))
