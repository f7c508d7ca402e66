"""Vocabulary of `cmt.stream.synthetic`: names, the attributes of entities, and the patterns of sentences."""

import random
from collections.abc import Callable
from typing import NamedTuple


def _words(text: str) -> list[str]:
    return text.split()


_ONSETS = _words("Ba Be Bo Bra Bre Ca Co Cu Da Do Dra Du Fa Fe Ga Gre Ha Ho Ka La Lo Ma Me Mo Na Pe Pra Ra To Wi")
_MIDDLES = _words("dda lle mbi nde nto rda rga rlo rma rne rri sta tti vva ngo zzi")
_ENDINGS = _words(
    "bury by combe cote croft dale dean den fell field ford gate ham hay holm ley low mere mont more mouth ness nock "
    "port ridge side ster thwaite ton worth"
)
_FIRST_NAMES = _words(
    "Ada Anders Beata Bruno Carla Cyril Dora Edgar Elsa Enid Felix Flora Georg Greta Hugo Ida Ines Ivo Jonas Judith "
    "Karin Lars Lena Magnus Marta Nils Nora Olaf Olga Oskar Paula Petra Ralf Rosa Silas Sven Tessa Ulla Viktor Wanda"
)
_COATS = _words("red blue black green white golden silver grey spotted horned sleeping leaping crowned winged")
_BEASTS = _words("heron otter badger stag pike raven hare boar crane toad lynx goat owl trout bear swan mole wolf")
_TOWNS = _words("{} Port_{} {}_Abbey {}_Cross {}_Green {}_Bridge Upper_{} Lower_{} New_{} Old_{} Saint_{} {}_Sands")
_FIRMS = _words("{}_Bakery {}_Bells {}_Boats {}_Bricks {}_Candles {}_Cheese {}_Clocks {}_Foundry {}_Lamps {}_Salt")
_PEOPLE = [f"{name}_{{}}" for name in _FIRST_NAMES]

ASIDES = (
    "The meeting took {n} minutes.",
    "Rain had kept {n} others at home.",
    "{who}, who was passing, had nothing to add.",
    "The notice hangs beside the post office, under {n} older ones.",
    "A brass band of {n} played at the end.",
    "{who} wrote it all down and lost the page.",
    "Tea was served in {n} cups.",
    "It was said over the noise of {n} geese.",
)
NOISE = (
    "An umbrella was left on a bench, and {name} is named in the report.",
    "Fog held up the morning post, and {name} was the last to hear of it.",
    "A choir of {n} sang for {name} and was asked to stop.",
    "A photograph of {name}, taken {n} days ago, turned up in a drawer.",
)
RUMOURS = ("A handbill without a name on it says: {said}", "Heard at the market, and confirmed by nobody: {said}")

Draw = Callable[[random.Random, int], str]
"""Draws a value with a generator and the seed of the names."""


class Attribute(NamedTuple):
    """A property of an entity whose value changes."""

    title: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    draw: Draw


class Kind(NamedTuple):
    """A kind of entity: the forms of its names, and its attributes."""

    forms: list[str]
    attributes: tuple[Attribute, ...]


def name(forms: list[str], number: int, seed: int) -> str:
    """Name number `number` in these `forms`. The first 100,000 names of a kind differ; the order depends on `seed`."""
    place = (number * 1_000_003 + seed * 7_919) % (len(_ONSETS) * len(_MIDDLES) * len(_ENDINGS) * len(forms))
    place, onset = divmod(place, len(_ONSETS))
    place, middle = divmod(place, len(_MIDDLES))
    form, ending = divmod(place, len(_ENDINGS))
    return forms[form].format(_ONSETS[onset] + _MIDDLES[middle] + _ENDINGS[ending]).replace("_", " ")


def _draw_name(forms: list[str]) -> Draw:
    return lambda rng, seed: name(forms, rng.randrange(100_000), seed)


def _beast(rng: random.Random, _: int) -> str:
    return f"{rng.choice(_COATS)} {rng.choice(_BEASTS)}"


def _crowns(rng: random.Random, _: int) -> str:
    return f"{rng.randint(2, 998)} crowns"


person, _town, _firm = map(_draw_name, (_PEOPLE, _TOWNS, _FIRMS))

_TOWN_ATTRIBUTES = (
    Attribute(
        "The mayor of {name}",
        (
            "{value} is the mayor of {name}.",
            "In {name} the chain of the mayor hangs round the neck of {value}.",
            "The people of {name} have {value} for their mayor.",
        ),
        ("Who is the mayor of {name}?", "Who wears the mayor's chain in {name}?"),
        person,
    ),
    Attribute(
        "The bridge at {name}",
        (
            "The bridge toll at {name} is {value}.",
            "Whoever crosses the bridge at {name} pays {value}.",
            "The toll keeper at the bridge of {name} asks for {value}.",
        ),
        ("What is the bridge toll at {name}?", "What does it cost to cross the bridge at {name}?"),
        _crowns,
    ),
    Attribute(
        "The flag of {name}",
        (
            "The flag of {name} shows a {value}.",
            "A {value} is the emblem on the flag of {name}.",
            "Over the roofs of {name} flies a flag with a {value}.",
        ),
        ("What does the flag of {name} show?", "Which animal is on the flag of {name}?"),
        _beast,
    ),
)
_PERSON_ATTRIBUTES = (
    Attribute(
        "{name} at work",
        ("{name} works for {value}.", "{value} has {name} on its books.", "The employer of {name} is {value}."),
        ("Who does {name} work for?", "Which firm employs {name}?"),
        _firm,
    ),
    Attribute(
        "{name} at home",
        (
            "{name} lives in {value}.",
            "The home of {name} is in {value}.",
            "Letters for {name} go to an address in {value}.",
        ),
        ("Where does {name} live?", "In which town is the home of {name}?"),
        _town,
    ),
    Attribute(
        "The wages of {name}",
        (
            "{name} earns {value} a month.",
            "The monthly wage of {name} is {value}.",
            "{name} takes home {value} each month.",
        ),
        ("What does {name} earn a month?", "How high is the monthly wage of {name}?"),
        _crowns,
    ),
)
_FIRM_ATTRIBUTES = (
    Attribute(
        "The head of {name}",
        ("{value} is the head of {name}.", "{name} is run by {value}.", "At {name} the big desk is that of {value}."),
        ("Who is the head of {name}?", "Who runs {name}?"),
        person,
    ),
    Attribute(
        "A crate from {name}",
        (
            "A crate from {name} costs {value}.",
            "{name} sells its crates at {value}.",
            "Buyers pay {value} for a crate from {name}.",
        ),
        ("What does a crate from {name} cost?", "At what price does {name} sell a crate?"),
        _crowns,
    ),
    Attribute(
        "The seat of {name}",
        (
            "{name} has its seat in {value}.",
            "The seat of {name} is {value}.",
            "{value} is where {name} has its office.",
        ),
        ("Where is the seat of {name}?", "In which town has {name} its office?"),
        _town,
    ),
)
KINDS = (Kind(_TOWNS, _TOWN_ATTRIBUTES), Kind(_PEOPLE, _PERSON_ATTRIBUTES), Kind(_FIRMS, _FIRM_ATTRIBUTES))
