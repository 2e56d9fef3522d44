# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a model and a folder to a defence that is measured, exported and shown
#
# A frozen model and a folder of pictures are all that is needed. Here both are small and made on the spot, so that
# the notebook runs in seconds without a download: the figures show *how*, not how much (see the recorded runs for that).

# %%
import tempfile
from pathlib import Path

from IPython.display import SVG, Image, display
from PIL import Image as Picture

from heirloom import (
    DefendedModel,
    DefendSettings,
    EncoderSettings,
    HeadSettings,
    PreprocessorSettings,
    Threat,
    TrainingSettings,
    defend,
    evaluate,
    load_encoder,
    load_images,
)

EPOCHS, IMAGES, TESTED = 20, 500, 60  # more of each costs more and gives more
here = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A folder of pictures
#
# Class folders of picture files, as they lie on many a disk: `photos/three/17.png`.

# %%
digits = load_images("digits", limit=IMAGES, limit_test=TESTED)
for split, part in (("train", digits.train), ("test", digits.test)):
    for number, (pixels, label) in enumerate(zip(part.images, part.labels.tolist())):
        place = here / "photos" / split / digits.train.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Picture.fromarray((pixels[0] * 255).round().byte().numpy()).save(place / f"{number}.png")
photos = load_images(str(here / "photos"))
print(photos.train.shape, len(photos.train), "training and", len(photos.test), "test pictures")

# %% [markdown]
# ## A frozen model
#
# Any Transformers folder or hub id, or `package.module:factory`. Here a small ResNet, pre-trained without labels.

# %%
from heirloom.defence.demo import pretrain_foundation

pretrain_foundation(photos.train, here / "model", epochs=6)
encoder = load_encoder(EncoderSettings(str(here / "model")))

# %% [markdown]
# ## Defended and measured
#
# A preprocessor is trained in front, a linear head behind; then the whole is attacked, white-box, beside the bare model.
# The audit says what is wrong with figures of so few pictures.

# %%
threat = Threat("Linf", eps=0.1)
training = TrainingSettings(epochs=EPOCHS, learning_rate=3e-3, warmup=0.1)
settings = DefendSettings(
    threat,
    PreprocessorSettings(method="adversarial-reconstruction", training=training),
    compare=("identity",),
    head=HeadSettings(epochs=20),
    attacks=("pgd-10", "cascade"),
    audit_examples=8,
)
model, summary = defend(encoder, photos, settings, here / "defended")
for row in summary.rows:
    figures = {name: cell for name, cell in row.items() if name in ("clean", "pgd-10", "cascade")}
    print(
        row["defence"],
        {
            k: f"{100 * v['value']:.1f} [{100 * v['low']:.1f}, {100 * v['high']:.1f}]"
            for k, v in figures.items()
        },
    )
print(
    [finding["check"] for finding in summary.details["audit"]["findings"] if finding["verdict"] == "fail"],
    "signs of a wrong figure",
)

# %% [markdown]
# The page of the run has the rest; its first figure is accuracy against the radius of the attack.

# %%
import base64
import re

page = (here / "defended" / "report.html").read_text()
first = re.search(r'data:image/svg\+xml;base64,([^"]+)', page)
display(SVG(base64.b64decode(first[1])))

# %% [markdown]
# ## Loaded again, measured by another attack

# %%
model = DefendedModel.from_pretrained(here / "defended")
found = evaluate(model, (photos.test.images, photos.test.labels), threat, ["apgd-ce"])
print("APGD-CE:", found.accuracy("apgd-ce"), "% of", found.accuracy("apgd-ce").n)

# %% [markdown]
# ## Exported
#
# One file for any batch size, kept only where its logits are PyTorch's.

# %%
from heirloom.defence.export import export_program

worst = export_program(model, model.image_shape, here / "defended.pt2")
print((here / "defended.pt2").stat().st_size // 1024, "KiB, logits within", f"{worst:.0e}")

# %% [markdown]
# ## Shown
#
# `heirloom show` serves this as an app with sliders; the same from Python, for one picture: before, after, the change
# amplified, and what the preprocessor makes of the picture before and after.

# %%
from heirloom.show.attacked import Asked, attack_sample, verdict
from heirloom.show.opened import as_array, eight_bit, open_folder, samples

opened = open_folder(here / "defended")
outcome = attack_sample(opened, samples(opened)[0], Asked("PGD", threat.eps, steps=20))
print(verdict(opened, outcome))
shown = [outcome.before, outcome.after, outcome.change, outcome.seen_before, outcome.seen_after]
strip = Picture.new("L", (5 * 130, 120), 255)
for number, pixels in enumerate(shown):
    tile = Picture.fromarray(as_array(eight_bit(pixels))).resize((120, 120), Picture.Resampling.NEAREST)
    strip.paste(tile, (130 * number, 0))
strip.save(here / "strip.png")
display(Image(filename=str(here / "strip.png")))

# %% [markdown]
# `heirloom show FOLDER --html page.html` writes that as one page for those without Python.
