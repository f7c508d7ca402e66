"""Credentials are masked everywhere in an address; other text is unchanged."""

import pytest

from cmt.common.secrets import has_secrets, mask_secrets

SECRET = "hunter2"  # noqa: S105 - a password for tests


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        (f"s3://AKIA:{SECRET}@bucket/bank", "s3://***@bucket/bank"),
        (f"s3://AKIA:wJal/{SECRET}+x@bucket/bank", "s3://***@bucket/bank"),
        (f"postgresql://ann:p@{SECRET}@db:5432/mlflow", "postgresql://***@db:5432/mlflow"),
        (f"https://{SECRET}@host/path", "https://***@host/path"),
        (f"redis://:{SECRET}@host", "redis://***@host"),
        (f"az://bank/x?sv=1&sig={SECRET}&se=2", "az://bank/x?sv=1&sig=***&se=2"),
        (f"https://host/?X-Amz-Signature={SECRET}", "https://host/?X-Amz-Signature=***"),
        (f"https://host/?access_token={SECRET}#top", "https://host/?access_token=***#top"),
        (f"host=db password={SECRET} user=ann", "host=db password=*** user=ann"),
        ("Authorization: Bearer 0123456789abcdef", "Authorization: Bearer ***"),
        (f'{{"CMT_TOKEN": "cmt_{"x" * 43}"}}', '{"CMT_TOKEN": "***"}'),
    ],
)
def test_credentials_are_masked_in_the_middle_of_a_text(address: str, masked: str) -> None:
    assert mask_secrets(f"at {address} (twice: {address})") == f"at {masked} (twice: {masked})"
    assert has_secrets(address)
    assert not has_secrets(masked.replace("***@", ""))


@pytest.mark.parametrize(
    "text",
    [
        "data/bank",
        "sqlite:////home/ann@host/mlflow.db",
        "http://127.0.0.1:8000/a@b",
        "hub:org/name@revision",
        "s3+ddb://bucket/bank?ddbTableName=locks",
        "write section.key=value, such as research.compressor.memory_tokens=16",
        "ann@example.org wrote it",
        "the bearer tokens of cmt_serve",
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    assert mask_secrets(text) == text
    assert not has_secrets(text)
