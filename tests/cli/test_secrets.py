"""A password in an address is refused, or shown by no command, log or file."""

from pathlib import Path

import pytest

from cmt.config import Params
from cmt.tracking.payload import flat_params
from tests.helpers.cli import MAYOR, run

SECRET = "hunter2"  # noqa: S105 - a password for tests
BANKS = [
    f"s3://AKIA:{SECRET}@bucket/bank",
    f"az://bank?sv=1&sig={SECRET}",
    f"s3://bucket/bank?aws_secret_access_key={SECRET}",
]
SERVERS = [
    (f"http://ann:{SECRET}@127.0.0.1:9", "start or repair it"),
    (f"http://{SECRET}@127.0.0.1:9", "start or repair it"),
    (f"postgresql://ann:{SECRET}@127.0.0.1:9/mlflow", "install the driver"),
    (f"mysql+nothing://ann:{SECRET}@host/db", "start or repair it"),
]


@pytest.mark.parametrize("uri", BANKS)
def test_an_address_of_a_bank_with_credentials_is_refused(tiny_workspace: Path, uri: str) -> None:
    for command in (["ask", MAYOR], ["update"]):
        result = run(tiny_workspace, "--set", f"bank.uri={uri}", *command, status=2)
        assert "bank.uri" in result.output and "AWS_SECRET_ACCESS_KEY" in result.output
        assert SECRET not in result.output
    for malformed in (f"={uri}", f"bank.uri=[{uri}"):
        assert SECRET not in run(tiny_workspace, "--set", malformed, "rounds", status=2).output


def test_the_password_of_a_tracking_server_is_masked(
    adapted: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # 1. a command that needs the server ends with one line
    for uri, remedy in SERVERS:
        tracking = ("--set", "tracking.enabled=true", "--set", f"tracking.uri={uri}")
        listed = run(adapted, *tracking, "registry", "list", status=1)
        assert remedy in listed.output and SECRET not in listed.output and "Traceback" not in listed.output
        assert len(listed.stderr.splitlines()) == 1
    # 2. a round only warns
    run(adapted, "rollback", "2031-02/0001")
    updated = run(adapted, *tracking, "update")
    assert "***" in caplog.text
    assert SECRET not in updated.output + caplog.text
    # 3. no written file contains it
    assert not [file for file in adapted.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def test_parameters_in_mlflow_have_no_credentials() -> None:
    values = flat_params(Params().with_values(bank={"uri": BANKS[0]}))  # as no params.yaml can have it
    assert values["bank.uri"] == "s3://***@bucket/bank"
    assert SECRET not in str(values)
