"""The house's rules, read off the syntax tree: imports go one way, names are frozen, nothing global is drawn."""

import ast
import importlib.util
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn

import heirloom
from heirloom.cli import app
from heirloom.models.defended import Defended
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.models.preprocessor import build_preprocessor
from heirloom.networks.resnet import resnet8
from heirloom_recipes.record import MACHINE_PATH

SOURCE = Path(heirloom.__file__).parent
FROZEN = Path(__file__).with_name("frozen_interface.json")
TESTS = Path(__file__).parent
ARCHITECTURE = SOURCE.parents[1] / "docs" / "architecture.md"
ROWS = re.findall(r"^\| `(\w+)` \| (.+) \| .+ \|$", ARCHITECTURE.read_text(), flags=re.M)
# a module may import from its own room and from those above it on the page
LEVEL = {room: number for number, (room, _) in enumerate(ROWS)} | {
    "__main__": len(ROWS),
    "__init__": len(ROWS),
}
FILES = sorted([*SOURCE.rglob("*.py"), *(SOURCE.parent / "heirloom_recipes").rglob("*.py")])


def _room(module: str) -> str:
    """``heirloom.attacks.pgd`` -> ``attacks``."""
    parts = module.split(".")
    return parts[1] if parts[0] == "heirloom" and len(parts) > 1 else parts[0]


def _own_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("heirloom"):
            if node.module == "heirloom":
                yield from (f"heirloom.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("heirloom"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE.parent)))
def test_imports_go_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    room = _room(module)
    assert room in LEVEL, f"{module} has no row in docs/architecture.md"
    for imported in _own_imports(ast.parse(path.read_text())):
        other = _room(imported)
        other = _home(imported) if other not in LEVEL else other
        assert LEVEL[other] <= LEVEL[room], f"{module} imports {imported}, which stands above it"


def _home(imported: str) -> str:
    return _room(heirloom._HOME[imported.rpartition(".")[2]])


def test_the_page_shows_every_room_and_no_other() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    loose = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert {room for room, _ in ROWS} == rooms | loose | {"heirloom_recipes"}


@pytest.mark.parametrize(("room", "sentence"), ROWS)
def test_a_rooms_sentence_is_the_one_on_the_page(room: str, sentence: str) -> None:
    folder = SOURCE.parent / room if room == "heirloom_recipes" else SOURCE / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    assert (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0] == sentence


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE.parent)))
def test_nothing_global_is_seeded_or_drawn(path: Path) -> None:
    """``torch.manual_seed`` only inside ``fork_rng``; numpy's and Python's global generators never.

    But for the audit, which fixes every generator that a model may draw from and puts all of them back (tested).
    """
    if path.parts[-2:] == ("evaluation", "copies.py"):
        return
    tree = ast.parse(path.read_text())
    forked: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items):
            forked |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("torch.manual_seed", "torch.cuda.manual_seed"):
                assert node in forked, f"line {node.lineno}"
            assert name not in ("torch.seed", "random.seed"), f"line {node.lineno}"
            if name.startswith("np.random."):
                assert name.startswith("np.random.default_rng"), f"line {node.lineno}"
            assert name not in ("pickle.load", "pickle.loads"), f"line {node.lineno}"
            if name == "torch.load":
                assert "weights_only=True" in ast.unparse(node), f"line {node.lineno}"


def _interface() -> dict[str, list[str]]:
    """The public names, and the options of every command, groups included."""
    found = {"import heirloom": sorted(heirloom.__all__)}

    def visit(command: Any, path: str) -> None:
        options = {o for p in command.params for o in [*p.opts, *p.secondary_opts] if o.startswith("--")}
        found[path] = sorted(options)
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, f"{path} {name}")

    visit(typer.main.get_command(app), "heirloom")
    return found


def test_public_names_and_command_line_options_are_frozen() -> None:
    """A name that users rely on neither goes nor comes by accident: ``python -m tests.test_policy`` on purpose."""
    assert _interface() == json.loads(FROZEN.read_text())


@pytest.mark.parametrize("folder", ["results", "docs"])
def test_records_carry_no_path_of_a_machine(folder: str) -> None:
    for path in (SOURCE.parents[1] / folder).rglob("*"):
        if path.suffix in (".json", ".md", ".log", ".txt"):
            found = MACHINE_PATH.search(path.read_text())
            assert found is None, f"{path}: {found and found[0]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE.parent)))
def test_the_library_names_arguments_and_not_options(path: Path) -> None:
    """``batch_size``, never ``--batch-size``: only the command line knows how it spells them."""
    if "cli" in path.parts:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("require", "reject", "InputError"):
            words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            assert not any(re.search(r"(^|\s)--[a-z]", word) for word in words), f"line {node.lineno}"


def test_public_names_are_there() -> None:
    for name in heirloom.__all__:
        assert getattr(heirloom, name) is not None


def test_what_the_tests_replace_by_name_is_there() -> None:
    """A function that moves would break a slow test that few runs reach; here its old name is told at once."""
    for path in TESTS.rglob("test_*.py"):
        for name in re.findall(r"setattr\(\s*\"([\w.]+)\"", path.read_text()):
            assert pkgutil.resolve_name(name) is not None, path


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_packages_that_break_the_others_are_absent(package: str) -> None:
    assert importlib.util.find_spec(package) is None


def test_every_attackable_module_is_deterministic(foundation: Path) -> None:
    encoder = load_encoder(EncoderSettings(str(foundation)))
    small_vit = {"width": 24, "encoder_layers": 1, "decoder_layers": 1, "projector_hidden": 16}
    wholes: list[tuple[nn.Module, tuple[int, int, int]]] = [
        (Defended(build_preprocessor("mlp", (1, 8, 8)), encoder, nn.Linear(64, 10)), (1, 8, 8)),
        (Defended(build_preprocessor("conv", (1, 8, 8), width=8), encoder, nn.Linear(64, 10)), (1, 8, 8)),
        (
            Defended(build_preprocessor("vit-small32", (3, 32, 32), **small_vit), resnet8(), nn.Identity()),
            (3, 32, 32),
        ),
    ]
    for model, shape in wholes:
        x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
        outputs = []
        for seed in (0, 1):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                outputs.append(model.train(False)(x))
        assert torch.equal(*outputs)
        # the dead are easily told from the deterministic: other images, other logits
        assert not torch.equal(model(x.flip(0)), outputs[0])


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(_interface(), indent=1) + "\n")
