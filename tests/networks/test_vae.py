"""A small AutoencoderKL, saved here, as a preprocessor: one function, loaded again without its source."""

from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.models.preprocessor import rebuild_preprocessor, vae_preprocessor

autoencoder_kl = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder_kl.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=2,
        ).save_pretrained(tmp_path)
    return tmp_path


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
