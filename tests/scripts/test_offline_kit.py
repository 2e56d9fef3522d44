"""A kit arrives as it left: parts under the limit, put together again by the standard library, damage named."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "offline_kit.py"


@pytest.fixture
def kit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("offline_kit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _unpacked(folder: Path, into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "unpack.py"), "--into", str(into)]  # without our packages
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_files_arrive_as_they_left_and_damage_is_named(kit: ModuleType, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "large.bin").write_bytes(bytes(range(250)) * 10_000)  # 2.5 MB: three parts of 1 MB
    (data / "empty.txt").write_bytes(b"")
    files = kit.files_under(data, "data/digits")
    kit.pack(files, tmp_path / "kit", part_mb=1)
    parts = sorted((tmp_path / "kit" / "parts").rglob("large.bin.*"))
    assert [part.stat().st_size for part in parts] == [10**6, 10**6, 500_000]
    done = _unpacked(tmp_path / "kit", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    for name, path in files.items():
        assert (tmp_path / "there" / name).read_bytes() == path.read_bytes()
    parts[1].write_bytes(b"x" + parts[1].read_bytes()[1:])
    again = _unpacked(tmp_path / "kit", tmp_path / "elsewhere")
    assert again.returncode == 1
    assert "large.bin arrived damaged" in again.stderr
    assert not (tmp_path / "elsewhere" / "data" / "digits" / "train" / "large.bin").exists()


def test_what_is_there_already_and_what_it_alone_needs_stay_out(kit: ModuleType) -> None:
    def package(name: str, *needs: str) -> dict[str, object]:
        return {"metadata": {"name": name, "version": "1", "requires_dist": list(needs)}}

    report = {
        "install": [
            package("heirloom-robust", "torch>=2.6", "kornia>=0.8", "huggingface_hub"),
            package("torch", "nvidia-cublas; platform_system == 'Linux'", "sympy"),
            package("kornia", "kornia-rs", "torch>=2"),
            package("kornia_rs"),
            package("nvidia-cublas"),
            package("sympy"),
            package("huggingface_hub", "kornia; extra == 'test'", "unknown"),
        ]
    }
    assert list(kit.needed(report, ["Torch"])) == ["huggingface-hub", "kornia", "kornia-rs"]
    assert "nvidia-cublas" in kit.needed(report, [])
