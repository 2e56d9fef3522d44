"""The splits of a source that the ``datasets`` library reads, by name and undecoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heirloom.data.pictures import IMAGE_ENDINGS
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.hub import offline_where_unreachable

SPLIT_FOLDERS = {"train", "test", "validation"}
KINDS = "digits, a folder, an .npz or .parquet file or a hub id"
SAVED = {"dataset_dict.json", "state.json"}  # by ``save_to_disk``, of several splits and of one


def open_splits(source: str, revision: str | None) -> Any:
    """The splits of a hub id, a folder or a parquet file by name, undecoded; :class:`InputError` without any."""
    import datasets

    datasets.disable_progress_bars()
    path = Path(source)
    is_local = path.exists() or source.startswith((".", "/", "~"))
    if is_local:
        _check_local(path)
    try:
        if is_local:
            return _local(path)
        offline_where_unreachable()
        return datasets.load_dataset(source, revision=revision)
    except Exception as error:  # the library raises many kinds for unknown, unreachable and corrupt sources
        kind = "a readable folder or file" if is_local else f"{KINDS} within reach"
        reason = " ".join(str(error).split())[:160]
        raise InputError("data", kind, f"{source}, which could not be loaded: {reason}") from None


def _local(path: Path) -> Any:
    import datasets

    if path.is_file():
        return datasets.load_dataset("parquet", data_files=str(path))
    if _is_saved(path):
        found = datasets.load_from_disk(str(path))
        return found if isinstance(found, dict) else {"train": found}
    if any(path.rglob("*.parquet")):
        return datasets.load_dataset(str(path))
    return datasets.load_dataset("imagefolder", data_dir=str(path), data_files=_split_folders(path))


def _is_saved(path: Path) -> bool:
    return any((path / name).is_file() for name in SAVED)


def _split_folders(path: Path) -> dict[str, list[str]] | None:
    """The files of each split where the folder holds train/, test/ or validation/ and nothing else. None: the library
    finds the splits, for which it looks at each file 45 times.
    """
    names = {place.name for place in path.iterdir()}
    return {name: [f"{name}/**"] for name in sorted(names)} if names <= SPLIT_FOLDERS else None


def _check_local(path: Path) -> None:
    if not path.exists():
        raise InputError("data", "an existing folder", f"{path}, which does not exist")
    require(path.is_dir() or path.suffix == ".parquet", "data", KINDS, f"{path}")
    if path.is_file() or _is_saved(path):
        return
    if not any(f.suffix.lower() in (".parquet", *IMAGE_ENDINGS) for f in path.rglob("*")):
        raise InputError(
            "data", "a folder of parquet files or of class folders of images", f"{path}, which has none"
        )
