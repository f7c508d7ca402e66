from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from cmt.config import (
    SHIPPED,
    SHIPPED_LM_SHA256,
    Params,
    Section,
    StreamParams,
    dotted,
    load_params,
    state_folder,
    written_sections,
)
from cmt.errors import ConfigError

ROOT = Path(__file__).parents[1]
SECTIONS = {"research"} | {
    name
    for name, field in Params.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}


def load(folder: Path, text: str, **overrides: Any) -> Params:
    """The parameters of a `params.yaml` with this `text`."""
    (folder / "params.yaml").write_text(text)
    return load_params(folder / "params.yaml", overrides)


def fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted key and field of everything that can be set."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def test_every_key_has_a_docstring() -> None:
    keys = dict(fields(Params))
    assert len(keys) > 60
    assert [key for key, field in keys.items() if not field.description] == []


def test_the_shipped_file_sets_only_keys_that_exist_and_mostly_to_their_defaults() -> None:
    shipped = flat(yaml.safe_load((ROOT / "params.yaml").read_text()))
    defaults = flat(written_sections(Params().model_dump(mode="json")))
    changed = {key for key, value in shipped.items() if defaults[key] != value}
    of_the_clone = {"compressor.path", "lm.path"}
    of_its_lm = {"research.aggregator.blocks", "research.compressor.layers", "lm.sha256"}
    assert changed == of_the_clone | of_its_lm | {
        "stream.clock",
        "stream.format",
        "stream.trust_source",
    }
    # DVC needs every key that dvc.yaml names
    assert {key for key in defaults if key.startswith("research.")} <= shipped.keys()


def flat(sections: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value; the value of a key may be a mapping."""
    values: dict[str, Any] = {}
    for name, value in sections.items():
        is_section = name in SECTIONS or prefix == "research."
        values |= flat(value, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": value}
    return values


def test_no_shipped_value_points_outside_the_project() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.compressor.path == SHIPPED.resolve()
    assert (params.lm.source, params.lm.sha256) == (Params().lm.source, SHIPPED_LM_SHA256)
    assert Params().train.source == params.train.source == "hub:rajpurkar/squad"
    for key, field in fields(Params):
        assert ".." not in str(field.default), key
    assert ".." not in (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("selection: {top: 8}", "selection.top: Extra inputs are not permitted"),
        ("selections: {}", "selections: Extra inputs are not permitted"),
        ("selection: {top_k: 0}", "selection.top_k: Input should be greater than or equal to 1"),
        ("selection: {top_k: eight}", "selection.top_k: Input should be a valid integer"),
        ("train: {learning_rate: 0}", "train.learning_rate: Input should be greater than 0"),
        (
            "train: {mix: {'path:a.json': 0}}",
            "train.mix.path:a.json: Input should be greater than 0",
        ),
        ("stream: {period: 0}", "stream.period"),
        ("stream: {period: year}", "stream.period"),
        ("stream: {peers: [[Courier]]}", "stream.peers"),
        ("stream: {peers: all}", "stream.peers"),
        ("research: {aggregator: {kind: attention}}", "requires research.alignment.kind 'prefix'"),
        ("research: {alignment: {kind: prefix}}", "requires research.alignment.kind 'prefix'"),
        (
            "research: {train: {window_frequencies: {2: 1, 3: 1}}}",
            "3 is neither a multiple nor a divisor of compressor.window, 4",
        ),
        (
            "research: {compressor: {kind: tokens}}",
            "aggregator.kind 'windows' needs research.compressor.kind 'windows'",
        ),
        (
            "research: {compressor: {kind: tokens}, aggregator: {kind: none}}",
            "aggregator.kind 'none' needs research.compressor.kind",
        ),
    ],
)
def test_a_wrong_or_incompatible_value_is_refused_with_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "params.yaml"))
    assert message in str(caught.value)


def test_a_missing_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="params.yaml not found: run cmt in a project folder"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_keys_of_research_exist_and_a_file_has_them_in_that_section(tmp_path: Path) -> None:
    keys = dict(fields(Params))
    research = {
        f"{name}.{key}"
        for name in SECTIONS - {"research"}
        for key in getattr(Params(), name).RESEARCH
    }
    assert research <= keys.keys()
    assert {dotted(*key.split(".")) for key in research} == {f"research.{key}" for key in research}
    assert dotted("train", "questions") == "train.questions"
    assert (dotted("seed"), dotted("nothing", "kind")) == ("seed", "nothing.kind")
    params = Params.model_validate({"objective": {"alpha": 0.5}, "selection": {"top_k": 3}})
    text = yaml.safe_dump(written_sections(params.model_dump(mode="json", exclude={"lm"})))
    read = load(tmp_path, text)
    for section in ("objective", "selection", "compressor", "aggregator"):
        assert getattr(read, section) == getattr(params, section)
    assert written_sections({"selection": {"top_k": 3}}) == {"selection": {"top_k": 3}}


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("objective: {alpha: 1}", "objective.alpha", "research.objective.alpha"),
        ("train: {paragraphs: 4}", "train.paragraphs", "research.train.paragraphs"),
        ("research: {selection: {top_k: 4}}", "research.selection.top_k", "selection.top_k"),
    ],
)
def test_a_key_in_the_wrong_place_is_an_error_that_names_the_right_one(
    tmp_path: Path, text: str, wrong: str, right: str
) -> None:
    with pytest.raises(ConfigError, match=f": {wrong} is now {right}: move it there$"):
        load(tmp_path, text)
    with pytest.raises(ConfigError, match=right):
        load(tmp_path, "", **{wrong: 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("research: 4", "research: Input should be a section"),
        ("research: {seed: 4}", "research.seed"),
        ("research: {objective: 4}", "objective: Input should be"),
        ("research: {objective: {delta: 4}}", "objective.delta: Extra inputs"),
        ("research: {objective: {alpha: 4}}", "research.objective.alpha: Input should be"),
    ],
)
def test_a_wrong_value_of_research_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_keys_of_research_join_those_of_their_section(tmp_path: Path) -> None:
    text = "selection: {top_k: 3}\nresearch: {selection: {best_windows: 5}, objective:}\n"
    params = load(tmp_path, text, **{"research.objective.alpha": 0.4})
    assert (params.selection.top_k, params.selection.best_windows) == (3, 5)
    assert params.objective.alpha == 0.4
    assert load(tmp_path, "research:\n") == load(tmp_path, "")


def test_overrides_win_over_the_file_and_make_missing_sections(tmp_path: Path) -> None:
    overrides = {"selection.top_k": 4, "gate.min_f1": 20, "seed": 3}
    params = load(tmp_path, "selection: {top_k: 2, likely_from: 0.6}\ngate:\n", **overrides)
    assert (
        params.selection.top_k,
        params.selection.likely_from,
        params.gate.min_f1,
        params.seed,
    ) == (4, 0.6, 20.0, 3)
    with pytest.raises(ConfigError, match="seed.start: seed is a value, not a section"):
        load(tmp_path, "seed: 1", **{"seed.start": 2})


def test_relative_paths_are_relative_to_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "lm: {source: 'path:lms/base', path: /models}\n"
        "train: {source: 'path:train.json', start: data/old,"
        " mix: {'path:a.json': 2, 'path:/b.json': 1, 'hub:c/d': 1}}\n"
        "tracking: {uri: 'sqlite:///runs.db'}\n"
    )
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    params = load_params("params.yaml")
    assert (params.lm.source, params.lm.path) == (f"path:{tmp_path}/lms/base", Path("/models"))
    assert (params.train.source, params.train.start) == (
        f"path:{tmp_path}/train.json",
        tmp_path / "data/old",
    )
    assert (
        params.train.base
        == params.train.mix
        == {f"path:{tmp_path}/a.json": 2, "path:/b.json": 1, "hub:c/d": 1}
    )
    assert (params.bank.uri, params.stream.path) == (
        f"{tmp_path}/data/bank",
        tmp_path / "data/stream",
    )
    assert params.tracking.uri == f"sqlite:///{tmp_path}/runs.db"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    text = (
        "lm: {source: 'path:~/lm'}\nstream: {source: ~/news}\nbank: {uri: ~/bank}\n"
        "tracking: {uri: 'sqlite:///~/runs.db'}\n"
        "sources: [{name: a, kind: folder, address: ~/in},"
        " {name: b, kind: sql, address: 'sqlite:///~/b.db', query: q, key: k}]"
    )
    params = load(tmp_path, text)
    assert (params.lm.source, params.stream.source) == ("path:/home/ada/lm", Path("/home/ada/news"))
    assert (params.bank.uri, params.tracking.uri) == (
        "/home/ada/bank",
        "sqlite:////home/ada/runs.db",
    )
    assert [source.address for source in params.sources] == [
        "/home/ada/in",
        "sqlite:////home/ada/b.db",
    ]


def test_addresses_are_unchanged(tmp_path: Path) -> None:
    text = "bank: {uri: 's3://bucket/bank'}\ntracking: {uri: 'http://127.0.0.1:5000'}\n"
    params = load(tmp_path, text)
    assert (params.bank.uri, params.tracking.uri) == ("s3://bucket/bank", "http://127.0.0.1:5000")
    assert (params.lm.source[:5], params.train.source) == ("pypi:", "hub:rajpurkar/squad")
    assert (
        load(tmp_path, "tracking: {uri: 'sqlite:////var/runs.db'}").tracking.uri
        == "sqlite:////var/runs.db"
    )


def test_the_digest_depends_on_the_named_sections_and_not_on_the_order_of_keys(
    tmp_path: Path,
) -> None:
    first = load(tmp_path, "selection: {top_k: 4, likely_from: 0.6}")
    second = load(tmp_path, "selection: {likely_from: 0.6, top_k: 4}\ngate: {min_f1: 1}")
    assert first.digest("selection") == second.digest("selection") != Params().digest("selection")
    assert first.digest() != second.digest()
    # a change of the algorithm would make every stored round look as if its parameters had changed
    assert (
        Params().digest("gate")
        == "f06f17fc3383b14d17dac8cfd2b04b99d5ef93415053b994269fb8d59b1e79fd"
    )


def test_the_clock_is_the_systems_unless_set(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    assert before <= StreamParams().now() <= datetime.now(UTC)
    for value in (
        "2031-12-31T23:59:59Z",
        "'2031-12-31T23:59:59Z'",
        "2032-01-01T00:59:59+01:00",
    ):  # YAML reads a date
        stream = load(tmp_path, f"stream:\n  clock: {value}\n").stream
        assert stream.clock == "2031-12-31T23:59:59Z"
        assert stream.now() == datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)
    for value in ("noon", "2031-12-31", "2031-12-31T23:59:59", "12"):
        with pytest.raises(ConfigError, match="stream.clock"):
            load(tmp_path, f"stream:\n  clock: {value}\n")


def test_state_is_stored_next_to_a_local_bank_or_in_the_project(tmp_path: Path) -> None:
    local = Params.model_validate({"bank": {"uri": str(tmp_path / "deep/bank")}})
    remote = Params.model_validate({"bank": {"uri": "s3://bucket/bank"}})
    assert state_folder(local, tmp_path) == tmp_path / "deep/state"
    assert state_folder(remote, tmp_path) == tmp_path / "data/state"
