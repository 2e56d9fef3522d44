"""What the package index shows: README.md with links that work there, absolute ones to the tagged source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ReadmeHook(MetadataHookInterface):
    """Makes the readme dynamic: the file stays as people read it in the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text()
        home, version = metadata["urls"]["Source"], metadata["version"]
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, home, version)}


def absolute(text: str, home: str, version: str) -> str:
    """``text`` with relative links leading to ``home`` at the version's tag; pictures to the files themselves."""

    def replaced(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if "://" in target or target.startswith("#"):
            return found[0]
        kind = "raw" if mark else "blob"
        return f"{mark}[{words}]({home}/{kind}/v{version}/{target})"

    return re.sub(r"(!?)\[((?:[^\[\]]|\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)", replaced, text)
