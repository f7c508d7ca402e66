"""The language of a text by its most frequent words, or by its script, for counts over many
texts.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from cmt.text.words import words

SAMPLE = 300  # largest number of documents of an ingest whose language is determined
_CHARACTERS = 1_000  # of a text
_FEWEST = 8  # words
_SHARE = 0.15  # of the words that are frequent ones of the language
_WORDS = {
    "English": (
        "the of and to in is was for that with on as by at from it be are his has an this which "
        "were"
    ),
    "German": (
        "der die das und ist nicht ein eine den dem des mit sich auf für im zu von auch wird sind "
        "wurde bei nach"
    ),
    "French": (
        "le la les des et est une du que dans pour qui sur pas au aux avec ce par plus ont été "
        "sont cette"
    ),
    "Spanish": (
        "el la los las de que y en un una por con del se su para al es como más fue ha pero este"
    ),
    "Italian": (
        "il di che la per un una è del della non con sono alla nel gli dei le anche più ha come "
        "dal questo"
    ),
    "Portuguese": (
        "o a de que e do da em um uma para com não os as dos das no na por mais foi ao pelo"
    ),
    "Dutch": (
        "de het een van en is dat op te zijn met voor niet aan er werd door ook bij naar om hij "
        "heeft uit"
    ),
    "Swedish": (
        "och att det som en på är av för med den till inte ett har om var de från ska vid sig kan "
        "också"
    ),
    "Norwegian or Danish": (
        "og det som en på er av for med den til ikke et har om var fra skal ved kan også af blev"
    ),
    "Polish": (
        "i w na z do się nie że jest to od za przez o po jak dla oraz był został ale roku tego jego"
    ),
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _WORDS.items()}
_SCRIPTS = {
    "CJK": "Chinese or Japanese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
}


def language_of(text: str) -> str | None:
    """The language of `text`, or its script if that is not Latin; None if it cannot be told."""
    start = text[:_CHARACTERS]
    # 1. another script than the Latin one
    letters = [letter for letter in start if letter.isalpha()]
    foreign = Counter(
        unicodedata.name(letter, "").split(" ")[0] for letter in letters if letter > "\u024f"
    )
    if foreign.total() > len(letters) / 2:
        script = foreign.most_common(1)[0][0]
        return _SCRIPTS.get(script, f"in {script.capitalize()} script")
    # 2. the frequent words
    written = [word for word in words(start.casefold()) if word.isalpha()]
    counts = {
        name: sum(word in frequent for word in written) for name, frequent in _LANGUAGES.items()
    }
    best = max(counts, key=counts.__getitem__)
    return best if len(written) >= _FEWEST and counts[best] >= _SHARE * len(written) else None


def language_notice(texts: Sequence[str], *, sampled: bool = False) -> str | None:
    """A line about the texts that are not English, the language that the shipped compressor reads;
    None without any.
    """
    foreign = Counter(
        name for text in texts if (name := language_of(text)) not in (None, "English")
    )
    if not foreign:
        return None
    listed = ", ".join(str(name) for name, _ in foreign.most_common(3))
    documents = ("sampled " if sampled else "") + ("document" if len(texts) == 1 else "documents")
    verb = "is" if foreign.total() == 1 else "are"
    return (
        f"{foreign.total():,} of {len(texts):,} {documents} {verb} {listed}: the shipped "
        "compressor reads English; "
        "scores will be low"
    )
