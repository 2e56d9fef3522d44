"""The planted defences, each a function without arguments that trains it in seconds on the digits."""

from __future__ import annotations

from functools import cache

from torch import nn

from heirloom.evaluation.broken import modules
from heirloom.evaluation.broken.base import clean_net, fit, seeded_modules, small_encoder
from heirloom.models.defended import Defended


def _behind(preprocessor: nn.Module, *, retrain: bool = True) -> nn.Module:
    """A classifier trained behind ``preprocessor``, or the undefended one with it put in front."""
    if not retrain:
        undefended = clean_net()
        assert isinstance(undefended, Defended)
        return Defended(preprocessor, undefended.encoder, undefended.head)
    build = lambda: Defended(preprocessor, small_encoder(), nn.Linear(512, 10))  # noqa: E731
    return fit(seeded_modules(build, 0))


@cache
def pixel_quantiser() -> nn.Module:
    """Pixels rounded to 4 levels: the gradient is zero everywhere."""
    return _behind(modules.Quantise())


@cache
def jpeg_rounding() -> nn.Module:
    """Cosine coefficients rounded as JPEG does: the gradient is zero everywhere."""
    return _behind(modules.JpegRounding())


@cache
def random_resize_pad() -> nn.Module:
    """Random resizing and padding at every forward pass."""
    return _behind(modules.RandomResizePad())


@cache
def noise_injection() -> nn.Module:
    """Gaussian noise on the pixels at every forward pass."""
    return _behind(modules.NoiseInjection())


@cache
def detached_smoothing() -> nn.Module:
    """A median filter outside autograd: no gradient reaches the image."""
    return _behind(modules.DetachedSmoothing())


@cache
def optimising_purifier() -> nn.Module:
    """An optimisation in the forward pass that moves the image towards its predicted class."""
    return _behind(modules.AntiAdversary(clean_net()), retrain=False)


@cache
def random_logit_scale() -> nn.Module:
    """Logits times a random factor at every forward pass."""
    return nn.Sequential(clean_net(), modules.RandomScale()).eval()


@cache
def tiny_gradients() -> nn.Module:
    """Gradients divided by 1e30 on their way back."""
    return nn.Sequential(clean_net(), modules.TinyGradient()).eval()


@cache
def softmax_output() -> nn.Module:
    """Probabilities instead of logits."""
    return nn.Sequential(clean_net(), modules.Scale(3.0), nn.Softmax(1)).eval()


@cache
def saturated_logits() -> nn.Module:
    """Logits times 10000: cross-entropy has no gradient."""
    return nn.Sequential(clean_net(), modules.Scale()).eval()


@cache
def train_mode_batch_norm() -> nn.Module:
    """BatchNorm that normalises by the batch it is shown, in eval mode too."""
    build = lambda: Defended(  # noqa: E731
        nn.Identity(), modules.AlwaysTraining(small_encoder(batch_norm=True)), nn.Linear(512, 10)
    )
    return fit(seeded_modules(build, 0))


@cache
def winners_take_all() -> nn.Module:
    """k-winners-take-all activations: the gradient does not foretell the loss."""
    build = lambda: Defended(  # noqa: E731
        nn.Identity(), small_encoder(modules.WinnersTakeAll), nn.Linear(512, 10)
    )
    return fit(seeded_modules(build, 0), epochs=20)


@cache
def vit_mae_random_mask() -> nn.Module:
    """Transformers' ViT-MAE as an encoder, its random mask left on."""
    build = lambda: Defended(nn.Identity(), modules.RandomlyMasked(), nn.Linear(768, 10))  # noqa: E731
    return fit(seeded_modules(build, 0), epochs=15, learning_rate=5e-3)
