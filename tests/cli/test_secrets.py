"""A password in an address is refused, or shown by no command, log or file."""

from pathlib import Path

import pytest

from cmt.config import Params
from cmt.tracking._payload import flat_params
from tests.helpers.cli import MAYOR, run

SECRET = "hunter2"  # noqa: S105 - a password for tests
BANK = f"s3://AKIA:{SECRET}@bucket/bank"
SERVERS = [
    (f"mysql+nothing://ann:{SECRET}@host/db", "start or repair it"),
    (f"postgresql://ann:{SECRET}@127.0.0.1:9/mlflow", "install the driver"),
]


def test_an_address_of_a_bank_with_credentials_is_refused(tiny_project: Path) -> None:
    result = run(tiny_project, "--set", f"bank.uri={BANK}", "ask", MAYOR, status=2)
    assert "bank.uri" in result.output and "AWS_SECRET_ACCESS_KEY" in result.output
    for pair in (f"bank.uri={BANK}", f"={BANK}", f"bank.uri=[{BANK}"):
        assert SECRET not in run(tiny_project, "--set", pair, "rounds", status=2).output


def test_the_password_of_a_tracking_server_is_masked(
    adapted: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # 1. a command that needs the server ends with one line
    for uri, remedy in SERVERS:
        tracking = ("--set", "tracking.enabled=true", "--set", f"tracking.uri={uri}")
        listed = run(adapted, *tracking, "registry", "list", status=1)
        assert (
            remedy in listed.output
            and SECRET not in listed.output
            and "Traceback" not in listed.output
        )
        assert len(listed.stderr.splitlines()) == 1
    # 2. a round only warns
    run(adapted, "rollback", "2031-02/0001")
    updated = run(adapted, *tracking, "update")
    assert "***" in caplog.text
    assert SECRET not in updated.output + caplog.text
    # 3. no written file contains it
    assert not [
        file
        for file in adapted.rglob("*")
        if file.is_file() and SECRET.encode() in file.read_bytes()
    ]


def test_parameters_in_mlflow_have_no_credentials() -> None:
    values = flat_params(Params().with_values(bank={"uri": BANK}))  # as no params.yaml can have it
    assert values["bank.uri"] == "s3://***@bucket/bank"
    assert SECRET not in str(values)
