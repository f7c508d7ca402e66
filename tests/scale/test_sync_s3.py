"""`cmt sync` from object storage, on an S3 server of this machine (`make test-scale`)."""

import json
from pathlib import Path

import fsspec
import pytest

from tests.helpers.sources import Project, Texts, rows, source
from tests.scale.s3 import BUCKET, environment, s3_server

pytestmark = pytest.mark.filterwarnings("ignore::Warning")


def test_objects_are_listed_fetched_and_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: Texts = {
        "a.jsonl": {"": "The first object."},
        "deep/b.jsonl": {"b": "The second.", "c": "The third."},
    }
    with s3_server() as port:
        for name, value in environment(port).items():
            monkeypatch.setenv(name.replace("AWS_ENDPOINT", "AWS_ENDPOINT_URL"), value)
        objects = fsspec.filesystem("s3")

        def put(key: str) -> None:
            content = "".join(json.dumps(row) + "\n" for row in rows(texts[key]))
            objects.pipe(f"{BUCKET}/news/{key}", content.encode())

        for key in texts:
            put(key)
        project = Project(tmp_path)
        bucket = source(kind="remote", address=f"s3://{BUCKET}/news/**/*.jsonl", on_delete="expire")
        assert (project.sync(bucket).documents, project.sync(bucket).changed) == (3, 0)
        texts["a.jsonl"] = {"": "The first, changed."}
        put("a.jsonl")
        objects.rm(f"{BUCKET}/news/deep/b.jsonl")
        report = project.sync(bucket)
        assert (report.changed, report.vanished, report.expired) == (1, 1, 2)
        assert project.texts() == {f"news/{BUCKET}/news/a.jsonl": "The first, changed."}
