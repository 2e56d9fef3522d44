"""A folder that brings heirloom to a machine without a network: wheels, data, weights, and how to unpack them.

    python scripts/offline_kit.py --out kit --data cifar10=DATA/cifar10 --weights runs/foundation
    python scripts/offline_kit.py --out kit --python 3.12 --without torch,transformers,accelerate  where those are there

On the other machine, which needs Python and pip alone:

    python kit/unpack.py --into heirloom-kit
    python -m pip install --no-index --find-links heirloom-kit/wheels heirloom-robust

Every file is cut into parts of at most ``--part`` MB (55: many ways of carrying end at 60), with its digest in
``kit/manifest.json``; ``unpack.py`` puts them together again and refuses what arrived damaged. Wheels come from the
index that pip is set up with, at the versions of constraints.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PART_MB = 55
OWN = "heirloom-robust"

UNPACK = '''"""Put the files of this kit together again and check them; needs Python alone."""

import argparse
import hashlib
import json
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--into", type=Path, default=Path("heirloom-kit"))
into, here = parser.parse_args().into, Path(__file__).parent
for name, told in json.loads((here / "manifest.json").read_text()).items():
    place, digest = into / name, hashlib.sha256()
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        for part in told["parts"]:
            content = (here / part).read_bytes()
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != told["sha256"]:
        place.unlink()
        raise SystemExit(f"{name} arrived damaged: carry {', '.join(told['parts'])} again.")
wheels = into / "wheels"
print(f"Next: python -m pip install --no-index --find-links {wheels} heirloom-robust")
'''


def cut(source: Path, name: str, kit: Path, part_bytes: int) -> dict[str, object]:
    """The file ``source`` as parts under ``kit/parts``: its entry in the manifest, where it is called ``name``."""
    digest, parts = hashlib.sha256(), []
    with source.open("rb") as file:
        while content := file.read(part_bytes):
            digest.update(content)
            place = kit / "parts" / f"{name}.{len(parts):03d}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            parts.append(str(place.relative_to(kit)))
    return {"sha256": digest.hexdigest(), "bytes": source.stat().st_size, "parts": parts}


def pack(files: dict[str, Path], kit: Path, part_mb: int = PART_MB) -> None:
    """All ``files`` (by their names in the kit), the manifest and ``unpack.py``."""
    manifest = {name: cut(path, name, kit, part_mb * 10**6) for name, path in sorted(files.items())}
    (kit / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    (kit / "unpack.py").write_text(UNPACK)


def wheels(folder: Path, python: str | None, without: list[str], extras: str) -> list[Path]:
    """heirloom's own wheel and those of all that it needs, at the pinned versions; of what is left out not a byte."""
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    own = next(folder.glob("heirloom_robust-*.whl"))
    wanted, report = f"{own}[{extras}]" if extras else str(own), folder / "report.json"
    there = ["--only-binary", ":all:", *(["--python-version", python] if python else [])]
    resolve = ["install", "-q", "--dry-run", "--target", str(folder / "none"), "--report", str(report)]
    subprocess.run([*pip, *resolve, *there, "-c", str(ROOT / "constraints.txt"), wanted], check=True)
    found = needed(json.loads(report.read_text()), without)
    exact = [f"{name}=={version}" for name, version in found.items()]
    subprocess.run([*pip, "download", "-q", "--no-deps", "-d", str(folder), *there, *exact], check=True)
    return sorted(folder.glob("*.whl"))


def needed(report: dict[str, Any], without: list[str]) -> dict[str, str]:
    """Names and versions of what heirloom needs in pip's ``report``, less ``without`` and what only these need."""
    known = {_plain(item["metadata"]["name"]): item["metadata"] for item in report["install"]}
    left_out, found = {_plain(name) for name in without}, dict[str, str]()
    ahead = [OWN]
    while ahead:
        told = known[ahead.pop()]
        names = {_plain(re.match(r"[\w.-]+", each)[0]) for each in told.get("requires_dist", ())}  # type: ignore[index]
        new = names & set(known) - left_out - set(found) - {OWN}
        found |= {name: known[name]["version"] for name in new}
        ahead += new
    return dict(sorted(found.items()))


def _plain(name: str) -> str:
    """A package's name as all spellings of it are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def files_under(place: Path, name: str) -> dict[str, Path]:
    """All files of a folder (or the one file) by their names in the kit."""
    if place.is_file():
        return {f"{name}/{place.name}": place}
    found = {f"{name}/{p.relative_to(place)}": p for p in sorted(place.rglob("*")) if p.is_file()}
    if not found:
        raise SystemExit(f"{place} must be a file or a folder with files, and is not.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", action="append", default=[], help="NAME=FOLDER; repeatable.")
    parser.add_argument(
        "--weights", action="append", default=[], type=Path, help="Folder of a model; repeatable."
    )
    parser.add_argument("--extras", default="", help="bench, lora, ... by commas.")
    parser.add_argument("--without", default="", help="Packages that are there already, by commas.")
    parser.add_argument("--python", help="Version on the other machine [default: this one's].")
    parser.add_argument("--part", type=int, default=PART_MB, help="Largest file, in MB.")
    options = parser.parse_args()
    if options.out.exists():
        raise SystemExit(f"out must be a new folder, got {options.out}, which exists.")
    files: dict[str, Path] = {}
    for given in options.data:
        name, _, folder = given.partition("=")
        files |= files_under(Path(folder), f"data/{name}")
    for place in options.weights:
        files |= files_under(place, f"weights/{place.name}")
    without = [name for name in options.without.split(",") if name]
    with tempfile.TemporaryDirectory() as temporary:
        made = wheels(Path(temporary), options.python, without, options.extras)
        files |= {f"wheels/{path.name}": path for path in made}
        pack(files, options.out, options.part)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {len(files)} files, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
