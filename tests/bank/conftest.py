"""An empty bank in a temporary folder."""

from pathlib import Path

import pytest

from cmt.bank.bank import Bank
from tests.helpers.banks import SCHEMA


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank.open(uri=str(tmp_path / "bank"), schema=SCHEMA)
