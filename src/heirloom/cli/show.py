"""``heirloom show``: a saved defence to try out, in the browser or as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heirloom.cli import options
from heirloom.cli.voice import voice


def show(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of saved defences; several are compared.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Images to pick from: folder, .npz file, digits [default: those of the page]."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained page instead; no Python needed to see it.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write one PNG instead: pictures attacked, and what was measured.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Of the app on 127.0.0.1 [default: the first free one]."),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the app in the browser.")] = False,
    device: options.Device = "cpu",
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Try a saved defence out: attack a picture with any eps and see what the model sees ([app]).

    The app listens on 127.0.0.1 alone and asks nothing of the network; Ctrl-C stops it.
    """
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import renamed, require
    from heirloom.show.opened import open_folders, samples

    written_instead = html is not None or picture is not None
    named = picture is None or picture.suffix.lower() == ".png"
    require(named, "picture", "a file that ends in .png", str(picture))
    if port is not None and not written_instead:
        from heirloom.show.app import is_free

        require(is_free(port), "port", "a free one", f"{port}, which another program uses")
    with renamed(folder="folders"):
        opened = open_folders(folders, device=str(torch_device(device)), trust_remote_code=trust_remote_code)
    pictures = samples(opened[0], data)
    written = [path for path in (html, picture) if path is not None]
    if html is not None:
        from heirloom.show.twin import write_twin

        write_twin(opened, pictures, html)
    if picture is not None:
        from heirloom.show.strip import write_strip

        write_strip(opened[0], pictures, picture)
    if written:
        voice().document = {"files": [str(path) for path in written]}
        print("\n".join(map(str, written)))
        return
    from heirloom.show.app import ADDRESS, build_app, launch

    app = build_app(opened, pictures)
    if not voice().quiet:
        place = f"http://{ADDRESS}:{port}" if port else f"http://{ADDRESS}:7860 or the next free port"
        print(f"heirloom: {place}; Ctrl-C stops it.", flush=True)
    launch(app, port=port, browser=browser)
