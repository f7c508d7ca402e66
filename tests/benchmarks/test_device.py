"""The figures of a device, on the tiny project."""

from pathlib import Path

import pytest

from tests.helpers.scripts import load_script, run_main


def test_every_device_has_its_figures(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    options = [
        "--params",
        str(tiny_workspace / "params.yaml"),
        "--data",
        str(tiny_workspace / "news"),
    ]
    status, stdout, stderr = run_main("device", *options)
    assert status == 0, stderr
    figures = {
        name.strip(): value
        for name, _, value in (line.rpartition("  ") for line in stdout.splitlines())
    }
    for name in (
        "compression, tokens a second",
        "questions a second",
        "first token, ms",
        "training, pairs an hour",
    ):
        assert float(figures[name].replace(",", "")) > 0
    assert figures["on the host"].strip() == "all"


def test_operations_on_the_host_are_counted() -> None:
    torch, script = pytest.importorskip("torch"), load_script("device")
    numbers, elsewhere = torch.ones(2), torch.ones(2, device="meta")
    with script.HostCalls() as host:
        numbers + 1
        elsewhere * 2
    assert host.calls == {"add": 1}
