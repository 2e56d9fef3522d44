"""A release, tried before it is one: ``python scripts/release.py [--demo] [--address https://HOST/OWNER/NAME]``.

Builds source and wheel, checks them (``twine check --strict``), that version, changelog and citation agree, and that no
link of the page on the index is relative; then installs the wheel into a fresh environment and runs it from another
folder: ``heirloom --version``, ``--help``, an evaluation, and with ``--demo`` the whole demo. Uploads nothing. The
project's address is a reserved name until somebody publishes it; ``--address`` puts the real one into pyproject.toml,
and all links of the page on the index follow.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
TRY = [
    "evaluate",
    "--model",
    "heirloom.evaluation.broken:pixel_quantiser",
    "--data",
    "digits",
    "--limit",
    "16",
]
TRY += ["--attacks", "pgd-2", "--no-audit", "--out", "tried", "--json"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="run the whole demo from the installed wheel")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the fresh environment")
    parser.add_argument("--address", help="of the source, https://HOST/OWNER/NAME: goes into pyproject.toml")
    chosen = parser.parse_args(arguments)
    if chosen.address is not None:
        set_address(ROOT / "pyproject.toml", chosen.address)
    version = checked_version()
    shutil.rmtree(DIST, ignore_errors=True)
    _run([sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)])
    _run([sys.executable, "-m", "twine", "check", "--strict", *map(str, DIST.iterdir())])
    (wheel,) = DIST.glob("*.whl")
    check_wheel(wheel, version)
    with tempfile.TemporaryDirectory() as place:
        try_installed(wheel, Path(place), version, chosen.python, demo=chosen.demo)
    print(f"{version}: built, checked, installed and run from another folder.")
    if ".example/" in (ROOT / "pyproject.toml").read_text():  # a reserved name (RFC 2606)
        print("Before it is uploaded: run this with --address, the place where the source lies.")
    else:
        print(f"Upload {DIST.name}/ to release it.")
    return 0


def set_address(project: Path, address: str) -> None:
    """Put ``address`` into [project.urls], its one place; status 1 where it is no https address of a repository."""
    if not re.fullmatch(r"https://[\w.-]+\.[a-z]+(/[\w.~-]+)+", address):
        sys.exit(f"--address must be https://HOST/OWNER/NAME, got {address}.")
    text = project.read_text()
    before = str(tomllib.loads(text)["project"]["urls"]["Source"])
    project.write_text(text.replace(before, address))


def checked_version() -> str:
    """The version of pyproject.toml, its one place; status 1 where the changelog or the citation say another."""
    version = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    if cited is None or cited[1] != version:
        sys.exit(f"CITATION.cff must say version {version}, got {cited and cited[1]}.")
    if f"\n## {version}\n" not in (ROOT / "CHANGELOG.md").read_text():
        sys.exit(f"CHANGELOG.md must have a section {version}, got none.")
    return version


def check_wheel(wheel: Path, version: str) -> None:
    """The wheel holds both packages and their pages, no test, and a readme whose links are absolute."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    wanted = (
        "heirloom/py.typed",
        "heirloom/report/page.html",
        "heirloom/show/twin.html",
        "heirloom_recipes/catalogue.py",
    )
    missing = [name for name in wanted if name not in names]
    foreign = [
        name for name in names if not name.startswith(("heirloom/", "heirloom_recipes/", "heirloom_robust-"))
    ]
    relative = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http", "#"))]
    for found, what in ((missing, "lacks"), (foreign, "should not hold"), (relative, "has relative links:")):
        if found:
            sys.exit(f"{wheel.name} {what} {', '.join(found[:5])}.")
    if f"\nVersion: {version}\n" not in text:
        sys.exit(f"{wheel.name} must be of version {version}.")


def try_installed(wheel: Path, place: Path, version: str, python: str, *, demo: bool) -> None:
    """Install the wheel with the pinned versions into ``place`` and run it there, away from the source."""
    _run([python, "-m", "venv", str(place / "venv")])
    binaries = place / "venv" / "bin"
    constraints = str(ROOT / "constraints.txt")
    _run([str(binaries / "pip"), "install", "--quiet", "-c", constraints, str(wheel)], cwd=place)
    heirloom = str(binaries / "heirloom")
    told = _run([heirloom, "--version"], cwd=place)
    if told.strip() != f"heirloom {version}":
        sys.exit(f"The installed heirloom must say version {version}, got {told.strip()}.")
    _run([heirloom, "--help"], cwd=place)
    _run([heirloom, *TRY], cwd=place)
    _run([heirloom, "rerun", "tried"], cwd=place)
    if demo:
        _run([heirloom, "demo", "--out", "demo"], cwd=place)
        _run([heirloom, "show", "demo", "--html", "demo.html"], cwd=place)


def _run(command: list[str], cwd: Path = ROOT) -> str:
    """Run ``command`` without the source tree on its path; its output ends the script where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    print(f"ok: {' '.join(Path(word).name if '/' in word else word for word in command)[:100]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
