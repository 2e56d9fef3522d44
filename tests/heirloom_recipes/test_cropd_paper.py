"""CRoPD's published figures, each beside the experiment that it is of, and the paper's settings: held to its text."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from heirloom_recipes.cropd.paper import ADVERSARIAL, ENCODER_ONLY, RIVALS, TABLES, TUNED, TUNED_ROCL, Cell
from heirloom_recipes.cropd.run import Runner
from heirloom_recipes.cropd.scales import scale_settings

TEXT = Path(__file__).parents[3] / "shared" / "papers" / "cropd-arxiv-2504.10850.txt"
beside_the_text = pytest.mark.skipif(not TEXT.exists(), reason="the paper's text is not beside the checkout")
COUNTS = {
    "table-1": 18,
    "table-2": 27,
    "table-3": 6,
    "table-8": 4,
    "table-9": 4,
    "table-10": 14,
    "trade-off": 0,
}
DATA = {"cifar-10": "cifar10", "cifar-100": "cifar100", "imagenette": "imagenette", "svhn": "svhn"}
DATA["tiny-imagenet"] = "tiny-imagenet"
LAMBDA_2 = {"cifar10": 10.0, "imagenette": 10.0, "svhn": 1.0, "cifar100": 1.0}  # Table 4


def _printed() -> Iterator[tuple[str, str, list[str]]]:
    """Of every row of figures in the text: table, sub-table's caption, and its cells; captions come below the rows."""
    rows, caption = [], ""
    waiting: list[tuple[str, list[str]]] = []
    for line in TEXT.read_text().splitlines():
        if "\t" in line:
            plain = (re.sub(r"<[^>]*>|±.*", "", cell) for cell in line.split("\t"))
            cells = [re.sub(r"\$\\lambda = ([\d.]+)\$", r"\1", cell).strip("* ") for cell in plain]
            rows.append(cells)
        elif found := re.match(r"\([a-e]\) (.*)", line):
            waiting += [(found[1].lower(), row) for row in rows]
            rows = []
        elif found := re.match(r"Table (\d+):", line):
            yield from ((f"table-{found[1]}", *each) for each in waiting)
            yield from ((f"table-{found[1]}", caption, row) for row in rows)
            rows, waiting = [], []


def _figures(cells: list[str]) -> tuple[float, ...]:
    return tuple(float(c) for c in cells if re.fullmatch(r"\d+\.\d\d", c))


def _expected() -> set[tuple[str, Cell]]:
    """The paper's rows as cells."""
    found, source, target = set(), "", ""
    for table, caption, row in _printed():
        figures = _figures(row)
        if table not in COUNTS or not figures:
            continue
        name, _, weight = (part.strip() for part in row[0].lower().partition(","))
        if table in ("table-1", "table-10"):
            half, under = len(figures) // 2, ("rocl" if table == "table-10" else "frozen")
            for head, own in (("clean", figures[:half]), ("robust", figures[half:])):
                attacked, before = head == "robust", under
                if "lora" in name:
                    before = "lora under attack" if attacked else "lora"
                elif "✓" in row and table == "table-1":
                    before = ADVERSARIAL if attacked else TUNED
                elif "✓" in row:
                    before = f"{TUNED_ROCL} under attack" if attacked else TUNED_ROCL
                method = "identity" if "lora" in name else name
                cell = Cell("cifar2", method, own, float(weight) if weight else None, head, before)
                found.add((table, cell))
        elif table == "table-2":
            data = DATA[caption]
            before = "lora" if "lora" in name else TUNED if data in ("cifar100", "svhn") else "frozen"
            method = "identity" if "lora" in name else name
            own = LAMBDA_2.get(data) if name == "cropd" else None
            found.add((table, Cell(data, method, figures, own, foundation=before)))
        elif table == "table-3":
            source, target = DATA.get(row[0].lower(), source), DATA.get(row[1].lower(), target)
            before, method = TUNED if target == "cifar100" else "frozen", row[2].lower()
            own = (1.0 if target == "cifar100" else 6.0) if method == "cropd" else None
            of = None if method == "identity" else source
            found.add((table, Cell(target, method, figures, own, foundation=before, trained_on=of)))
        elif table == "table-8":
            target = DATA.get(row[0].lower(), target)
            alone = row[1] == "Encoder-Only"
            method, own = ("identity", None) if alone else ("cropd", 10.0)
            before = ENCODER_ONLY if alone else "frozen"
            found.add((table, Cell(target, method, figures, own, foundation=before)))
        elif table == "table-9":
            share = float(row[0].rstrip("%")) / 100
            figures = _figures(row[2:])
            found.add((table, Cell("cifar10", "cropd", figures, float(row[1]), share=share)))
    return found


@beside_the_text
def test_every_published_row_stands_beside_its_own_experiment() -> None:
    ours = {(name, cell) for name, cells in TABLES.items() for cell in cells if cell.paper}
    assert ours == _expected()


def test_published_figures_as_typed_in_by_hand() -> None:
    by_name = {cell.name: cell.paper for cell in TABLES["table-2"]}
    assert by_name["cifar10, cropd, lambda 10"] == (79.31, 47.99, 40.31, 66.05)
    assert by_name["cifar100, vanilla, fine-tuned"] == (80.09, 58.18, 55.94, 18.48)
    assert by_name["tiny-imagenet, identity"] == (67.20, 8.39, 7.13)
    assert {name: sum(bool(cell.paper) for cell in cells) for name, cells in TABLES.items()} == COUNTS
    for cells in TABLES.values():
        assert len({cell.name for cell in cells}) == len(cells)
    rivals = {cell.method for cell in TABLES["table-2"] if cell.data == "cifar10" and not cell.paper}
    assert rivals == {*RIVALS, "identity"}


def test_the_papers_settings_are_each_data_sets_own() -> None:
    scale, told = scale_settings("paper", 0, "cpu"), {}
    for name in ("cifar2", "cifar10", "svhn", "cifar100", "imagenette"):
        size = scale.of_size(name)
        assert size is not None
        made = scale.front(name, (3, size, size))
        t = made.training
        told[name] = (t.epochs, t.batch_size, round(t.warmup * t.epochs, 9), size, made.architecture)
    small, large = (400, 32, 20, 32, "vit-small32"), (150, 96, 20, 224, "vit-large224")
    assert told == {
        **dict.fromkeys(("cifar2", "cifar10", "svhn"), small),
        "cifar100": (150, 96, 20, 32, "vit-small32"),
        "imagenette": large,
    }
    assert scale.tuning is not None
    assert (scale.tuning.epochs, scale.tuning.batch_size, scale.tuning.learning_rate) == (150, 64, 1e-4)
    cell = Cell("imagenette", "cropd")
    assert scale.threat(cell).eps == pytest.approx(4 / 255)


@beside_the_text
def test_the_papers_settings_are_those_of_its_table_6() -> None:
    text = TEXT.read_text()
    table_6 = text[text.index("<b>Warmup epochs</b>") : text.index("Table 6: Optimization")]
    scale = scale_settings("paper", 0, "cpu")
    epochs = {name: int(n) for name, n in re.findall(r"([\w-]+): (\d+) epochs", table_6)}
    batches = {name: int(n) for name, n in re.findall(r"([\w-]+): (\d+)(?! epochs|\d)", table_6)}
    assert len(epochs) == len(batches) == 5
    for name in epochs:
        t = scale.front(name.lower().replace("-", ""), (3, 32, 32)).training
        assert (t.epochs, t.batch_size) == (epochs[name], batches[name]), name


def test_what_runs_follows_the_images_that_the_preprocessor_is_trained_on(tmp_path: Path) -> None:
    runner = Runner("paper", tmp_path)
    data = type("Data", (), {"shape": (3, 32, 32)})()
    made = runner.settings(Cell("cifar10", "cropd", weight=6.0, trained_on="cifar100"), data)
    assert (made.training.epochs, made.training.batch_size, made.weight) == (150, 96, 6.0)
