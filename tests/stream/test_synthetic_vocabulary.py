import random
import re
from collections.abc import Iterator
from string import Formatter

from cmt.stream.synthetic_vocabulary import ASIDES, KINDS, NOISE, RUMOURS, Attribute, name


def attributes() -> Iterator[Attribute]:
    for kind in KINDS:
        yield from kind.attributes


def test_the_first_hundred_thousand_names_of_a_kind_differ() -> None:
    for forms, _ in KINDS:
        assert len({name(forms, number, 3) for number in range(100_000)}) == 100_000


def test_another_seed_has_other_names_in_the_same_place() -> None:
    forms = KINDS[0].forms
    assert name(forms, 5, 3) == name(forms, 5, 3) != name(forms, 5, 4)


def test_every_pattern_has_known_fields() -> None:
    def fields(pattern: str) -> set[str]:
        return {field for _, field, _, _ in Formatter().parse(pattern) if field is not None}

    for attribute in attributes():
        assert fields(attribute.title) == {"name"}
        assert all(fields(pattern) == {"name", "value"} for pattern in attribute.statements)
        assert all(fields(pattern) == {"name"} for pattern in attribute.questions)
    assert all(fields(pattern) <= {"name", "who", "n"} for pattern in (*ASIDES, *NOISE))
    assert all(fields(pattern) == {"said"} for pattern in RUMOURS)


def test_every_attribute_has_two_statements_so_that_it_can_be_paraphrased() -> None:
    assert all(len(set(attribute.statements)) >= 2 for attribute in attributes())


def test_a_value_depends_on_generator_and_seed_alone() -> None:
    for attribute in attributes():
        value = attribute.draw(random.Random(1), 3)
        assert value == attribute.draw(random.Random(1), 3)
        assert re.fullmatch(r"[\w ]+", value)
