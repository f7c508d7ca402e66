"""Markup of strangers, in one pass: a pattern that looks for an end from each beginning would take
quadratic time.
"""

from collections.abc import Callable


def replace_between(text: str, begin: str, end: str, replace: Callable[[str], str]) -> str:
    """`text` with `replace(inside)` in place of each `begin` + `inside` + `end`; a part without
    its end stays.
    """
    parts, position = list[str](), 0
    while (start := text.find(begin, position)) >= 0:
        stop = text.find(end, start + len(begin))
        if stop < 0:
            break
        parts += [text[position:start], replace(text[start + len(begin) : stop])]
        position = stop + len(end)
    return "".join([*parts, text[position:]])
