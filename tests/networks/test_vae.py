"""A small AutoencoderKL, saved here, as a preprocessor: one function, loaded again without its source."""

from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.models.preprocessor import rebuild_preprocessor, vae_preprocessor
from heirloom_recipes.cropd.paper import TABLES
from heirloom_recipes.cropd.run import Runner

autoencoder_kl = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl")


def _saved(folder: Path, channels: int = 3) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder_kl.AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=2,
        ).save_pretrained(folder)
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return _saved(tmp_path)


@pytest.mark.parametrize(("channels", "side"), [(3, 8), (1, 7)])
def test_a_vae_is_one_fixed_function_with_a_gradient(
    channels: int, side: int, saved: Path, generator: torch.Generator
) -> None:
    front = vae_preprocessor(str(saved), (channels, side, side))
    x = torch.rand(2, channels, side, side, generator=generator).requires_grad_()
    made = front(x)
    assert made.shape == x.shape
    assert torch.equal(made, front(x))  # no draw
    (gradient,) = torch.autograd.grad(front.reconstruct(x).sum(), x)
    assert float(gradient.abs().sum()) > 0
    again = rebuild_preprocessor(front.describe())
    again.load_state_dict(front.state_dict())
    torch.testing.assert_close(again.eval()(x), made)


def test_what_is_no_vae_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vae must be a hub id or folder of an AutoencoderKL"):
        vae_preprocessor(str(tmp_path), (3, 8, 8))


def test_a_vae_of_grey_images_is_for_grey_images(tmp_path: Path, generator: torch.Generator) -> None:
    grey = str(_saved(tmp_path, channels=1))
    x = torch.rand(2, 1, 8, 8, generator=generator)
    assert vae_preprocessor(grey, (1, 8, 8))(x).shape == x.shape
    with pytest.raises(InputError, match=r"vae must be of as many channels as the images \(3\), or of 3"):
        vae_preprocessor(grey, (3, 8, 8))


def test_a_recipe_may_be_given_one_later_and_not_another_then(tmp_path: Path) -> None:
    cells = [cell for cell in TABLES["table-2"] if cell.data == "cifar10" and cell.method == "vae"]
    out, sources = (
        tmp_path / "out",
        {name: {"vae": str(_saved(tmp_path / name, 1))} for name in ("one", "other")},
    )
    Runner("smoke", out)
    for _ in range(2):
        Runner("smoke", out, sources=sources["one"]).check(cells)
    with pytest.raises(InputError, match=r"resume must be of the run in .*, got another vae"):
        Runner("smoke", out, sources=sources["other"]).check(cells)
