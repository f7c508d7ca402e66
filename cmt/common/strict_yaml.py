"""Strict YAML: it refuses repeated keys, and aliases, which can expand to gigabytes."""

from typing import Any

import yaml


class WithoutAliases(yaml.SafeLoader):
    """Reads YAML and refuses aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias, which may expand to any size")
        return super().compose_node(parent, index)


class _Strict(WithoutAliases):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value)[:100], key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(
                    f"the key {name!r} is in line {lines[name]} and again in line {line}: keep one"
                )
            lines[name] = line
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The value in `text`. Raises ValueError with one line: bad YAML, a repeated key, an alias, or
    deep nesting.
    """
    try:
        value = yaml.load(text, _Strict)  # noqa: S506 (a SafeLoader)
        _check_strings(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())[:500]) from None
    return value


def _check_strings(value: Any) -> None:
    """Raise ValueError for a string that no file name or text can hold: with NUL, or half a
    surrogate pair.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a value has the character NUL")
        value.encode()
    elif isinstance(value, dict | list):
        for one in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_strings(one)
