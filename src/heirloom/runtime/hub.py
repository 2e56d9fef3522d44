"""The Hugging Face hub: whether it can be reached, told in seconds and not after a minute of retries."""

from __future__ import annotations

import os
import socket
from functools import cache
from urllib.parse import urlparse

SECONDS = 3.0


@cache
def within_reach() -> bool:
    """Whether the hub answers; behind a proxy that is left to the proxy. Asked once in a process."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(name.lower() in ("https_proxy", "all_proxy") and value for name, value in os.environ.items()):
        return True
    place = urlparse(constants.ENDPOINT)
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname or "", port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def offline_where_unreachable() -> None:
    """Let the hub's libraries look into their caches alone where the hub cannot be reached."""
    if within_reach():
        return
    import datasets
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True
