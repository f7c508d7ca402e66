"""Forms of English verbs, by rules."""

IRREGULAR = {
    "became": "become", "began": "begin", "made": "make", "took": "take", "won": "win",
    "led": "lead", "gave": "give", "found": "find", "built": "build", "wrote": "write",
    "held": "hold", "lost": "lose", "left": "leave", "came": "come", "went": "go", "ran": "run",
    "said": "say", "saw": "see", "grew": "grow", "fell": "fall", "met": "meet", "brought": "bring",
    "bought": "buy", "sold": "sell", "sent": "send", "told": "tell", "taught": "teach",
    "thought": "think", "drew": "draw", "rose": "rise", "sang": "sing", "spoke": "speak",
    "kept": "keep", "fought": "fight", "had": "have", "paid": "pay", "stole": "steal",
    "beat": "beat", "broke": "break", "drove": "drive", "cost": "cost", "caught": "catch",
    "swam": "swim", "flew": "fly", "knew": "know", "chose": "choose", "got": "get", "put": "put",
}  # fmt: skip
"""Past → infinitive of verbs that do not end in -ed."""
_PAST = {infinitive: past for past, infinitive in IRREGULAR.items()}
_PARTICIPLES = {
    "begin": "begun", "take": "taken", "give": "given", "write": "written", "go": "gone",
    "become": "become", "come": "come", "run": "run", "see": "seen", "grow": "grown",
    "fall": "fallen", "draw": "drawn", "rise": "risen", "sing": "sung", "speak": "spoken",
    "steal": "stolen", "beat": "beaten", "break": "broken", "drive": "driven", "swim": "swum",
    "fly": "flown", "know": "known", "choose": "chosen",
}  # fmt: skip
_SILENT_E = ("ag", "at", "as", "c", "dg", "iv", "iz", "ok", "pos", "ur", "us", "v")
PARTICIPLES = frozenset(_PARTICIPLES.values()) | (
    IRREGULAR.keys() - {_PAST[base] for base in _PARTICIPLES}
)
"""The past participles of the verbs of IRREGULAR."""


def infinitive(verb: str) -> str | None:
    """The infinitive of a verb in the third person or the past; None if no rule knows it."""
    verb = verb.lower()
    if verb in IRREGULAR:
        return IRREGULAR[verb]
    if verb in _PAST:
        return verb
    if verb == "has":
        return "have"
    for ending in ("ied", "ies"):
        if verb.endswith(ending):
            return verb.removesuffix(ending) + "y"
    if verb.endswith("ed") and len(verb) > 4:
        stem = verb.removesuffix("ed")
        if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
            return stem[:-1]
        return f"{stem}e" if stem.endswith(_SILENT_E) else stem
    if verb.endswith(("ches", "shes", "sses", "xes", "goes")):
        return verb.removesuffix("es")
    if verb.endswith("s") and not verb.endswith(("ss", "us", "is")) and len(verb) > 3:
        return verb.removesuffix("s")
    return None


def past(base: str) -> str:
    """The past of an infinitive."""
    if base in _PAST:
        return _PAST[base]
    if base.endswith("y") and base[-2:-1] not in "aeou":
        return f"{base[:-1]}ied"
    return f"{base.removesuffix('e')}ed"


def participle(base: str) -> str:
    """The past participle of an infinitive."""
    return _PARTICIPLES.get(base) or past(base)
