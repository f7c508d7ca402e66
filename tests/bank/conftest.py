"""An empty bank in a temporary folder."""

from pathlib import Path

import pytest

from cmt.bank.bank import Bank, open_bank
from cmt.bank.location import BankLocation
from tests.helpers.banks import SCHEMA


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return open_bank(BankLocation(str(tmp_path / "bank")), schema=SCHEMA)
