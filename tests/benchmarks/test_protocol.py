"""What the benchmarks share."""

import json
import shutil
from pathlib import Path

from tests.helpers.projects import open_workspace
from tests.helpers.scripts import load_script


def test_a_missing_compressor_is_told_from_one_for_another_lm(tiny_project: Path, tmp_path: Path) -> None:
    missing_compressor, opened = load_script("protocol").missing_compressor, open_workspace(tiny_project)
    folder = Path(shutil.copytree(opened.params.compressor.path, tmp_path / "compressor"))
    assert missing_compressor(folder, opened.lm) is None
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"lm_digest": "0" * 64}))
    assert "was trained for another LM" in missing_compressor(folder, opened.lm)
    assert "no compressor in" in missing_compressor(tmp_path / "nowhere", opened.lm)
    for damaged in ("", "[]", "{}"):
        (folder / "config.json").write_text(damaged)
        assert missing_compressor(folder, opened.lm) is None
