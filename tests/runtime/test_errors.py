"""What no setting was wrong for, and is told in a sentence all the same."""

import pytest
import typer

from heirloom.cli import common


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "Memory ran out: smaller batches"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "Memory ran out: smaller batches",
        ),
        (MemoryError(), "Memory ran out: smaller batches"),
        (
            RuntimeError("[gloo/pair.cc:537] Connection closed by peer [::1]:3"),
            "Another process of this run ended",
        ),
    ],
)
def test_memory_and_lost_processes_are_one_sentence(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    app = typer.Typer()

    @app.command()
    def fails() -> None:
        raise error

    assert common.run(app, []) == 2
    assert capsys.readouterr().err.startswith(f"heirloom: {said}")
    monkeypatch.setenv("WORLD_SIZE", "1")
    if "peer" in str(error):
        with pytest.raises(RuntimeError):
            common.run(app, [])
