"""The card of a built data set: README.md with the front matter that the hub and ``datasets`` read."""

from __future__ import annotations

from pathlib import Path

from heirloom.report.tables import shown
from heirloom.results.schema import Summary
from heirloom.runtime.files import write_text

CARD = """---
tags: [robust-features, adversarial-robustness, heirloom]
task_categories: [image-classification]
configs:
- config_name: default
  data_files:
{files}
---
# {title}

{what} Made by `{command}` (heirloom {version}, seed {seed}).

| split | images | {columns} |
|{rule}
{rows}

Relative error: |g(image) - g(original)| / |g(original)|, g the encoder's features (L2), measured on the stored pixels.
Distance: L2 from the start, pixels in [0, 1]. Means over images ± their standard deviation.

| setting | value |
|---|---|
{settings}

Columns: `image` (PNG, nothing lost), `label` (whose representation it carries), `original` and `start` (indices of the
images in the source), `start_label`, and of each image `relative_error`, `start_error`, `distance`.

How: min over x' of |g(x') - g(x)| by normalised gradient descent from another image, after Ilyas et al., "Adversarial
Examples Are Not Bugs, They Are Features" (NeurIPS 2019), as Li and Li (arXiv 2410.08503, Section 6.2) use it. The
images derive from the source data set, whose licence and terms go on applying.

A robust encoder (adversarially trained) puts robust features there, a standard one features that an attacker can move;
which this is depends on the encoder alone, and how far to trust it on the relative error above.
"""
WHAT = {
    "inverted": "Images that look to `{encoder}` like images of `{data}` under their labels; each began as {start}.",
    "random-target": "Images of `{data}`, moved inside {threat} to look to `{encoder}` like a random class: the label.",
    "next-target": "Images of `{data}`, moved inside {threat} to look to `{encoder}` like the next class: the label.",
}
STARTS = {
    "other": "another image",
    "other-class": "an image of another class",
    "next-class": "an image of the next class",
    "noise": "uniform noise",
    "grey": "a grey image",
    "itself": "itself",
}


def write_card(folder: Path, summary: Summary) -> None:
    settings = summary.settings
    said = {"encoder": settings["encoder"], "data": settings["data"], "threat": settings["threat"]}
    columns = [name for name in summary.rows[0] if name not in ("split", "images")]
    text = CARD.format(
        files="\n".join(
            f"  - split: {row['split']}\n    path: data/{row['split']}-*.parquet" for row in summary.rows
        ),
        title=f"{settings['name']} features",
        what=WHAT[settings["variant"]].format(start=STARTS[settings["start"]], **said),
        command=summary.command,
        version=summary.versions.get("heirloom-robust", "unknown"),
        seed=summary.seed,
        columns=" | ".join(name.replace("_", " ") for name in columns),
        rule="---|" * (2 + len(columns)),
        rows="\n".join(
            f"| {row['split']} | {row['images']} | {' | '.join(shown(row[name]) for name in columns)} |"
            for row in summary.rows
        ),
        settings="\n".join(f"| {name} | {value} |" for name, value in settings.items() if value is not None),
    )
    write_text(folder / "README.md", text)
