"""One folder, several commands: each data set must be of the same images in all of them, and one more may join."""

from __future__ import annotations

from heirloom.data.labelled import ImageSource
from heirloom.runs import IMAGES_OF, Run
from heirloom.runtime.identity import check_same


def same_images(run: Run, name: str, images: ImageSource) -> ImageSource:
    """``images``, the data set called ``name`` in ``run``.

    Raises:
        InputError: an earlier command on the folder had others under this name.
    """
    facts = {name: images.facts()}
    check_same(run.stage(IMAGES_OF.format(name), lambda: facts), facts, run.folder)
    return images
