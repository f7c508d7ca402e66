"""The offline audit of the installed packages."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """The script as a module."""
    spec = spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_environment_is_pinned(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main() == 0
    assert "all as in constraints.txt" in capsys.readouterr().out


def test_another_version_and_an_unpinned_package_are_named(audit: ModuleType) -> None:
    pins = audit.pinned(
        ["# a comment", "Some_Package==1.2", "torch==2.13.0; python_version > '3'  # why", ""]
    )
    assert pins == {"some-package": "1.2", "torch": "2.13.0"}
    installed = {"some-package": "1.3", "torch": "2.13.0+cpu", "evil": "1", "pip": "9"}
    assert audit.differences(installed, pins) == [
        "evil 1 is installed, constraints.txt has no such package",
        "some-package 1.3 is installed, constraints.txt has 1.2",
    ]


@pytest.mark.parametrize(
    "line", ["torch", "torch>=2", "torch==2.*", "torch @ https://example.org/torch.whl"]
)
def test_a_line_that_allows_several_versions_is_refused(audit: ModuleType, line: str) -> None:
    with pytest.raises(ValueError, match="does not name one version"):
        audit.pinned([line])
