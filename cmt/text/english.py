"""Ways of telling a value, as regular expressions of English words."""

import re

_WAYS = {
    "change": r"""
        now|from (?:today|tonight|this|now|yesterday|\w+day|\d)|new(?:ly)?|no longer|instead|replac\w+|
        succe(?:ed|ss)\w*|t[ao]kes? over|took over|taken over|bec[ao]mes?|as of|with (?:immediate )?effect|
        since (?:yesterday|\w+day|last|the)|rais\w+|risen|rose|cut|lower\w*|(?:up|down) from|increas\w*|reduc\w*|
        moved?|moves|extended|shorten\w*|currently|
        today|latest|any ?more|parted|elected|appointed|sworn|takes? charge|permanent\w*|for good|already|in force|
        came into|ha(?:s|ve) been|renamed|overtak\w*|beat(?:s|en)?|broke|record|sold|bought|acquir\w*
    """,
    "future": r"""
        will|shall|(?:is|are) to|to be|due to|set to|next (?:year|month|week|spring|summer|autumn|winter|season)|
        by (?:20[2-9]\d|the end)|in 20[3-9]\d|forecast\w*|expect\w*|predict\w*|project(?:s|ed|ion)|estimates?|likely|
        prospect\w*
    """,
    "condition": r"""
        if|unless|should (?:it|the|they|he|she|a|there|we|that)|provided|would|in case|otherwise|
        were (?:it|the|they) to|could|might|may yet
    """,
    "hearsay": r"""
        heard|hear|rumou?r\w*|whisper\w*|gossip|swears?|cousin|t(?:ells|old) me|they say|people say|
        word (?:is|has it)|talk of|apparently|supposedly|alleged\w*|claim\w*|reported(?:ly)?|speculat\w*|sources?|
        unconfirmed|said to|believed to|understood to|insist\w*|barber\w*|pub|bar|taxi|online|posts?|chat|writes
    """,
    "denial": r"""
        not|never|no longer|den(?:y|ies|ied|ial)|reject\w*|untrue|false|mistak\w*|wrong\w*|error|misprint\w*|
        thr(?:ew|own) out|voted (?:down|no|against)|against|called off|cancel\w*|abandon\w*|laid aside|shelved|
        withdr\w+|fell|defeat\w*|dropped|no truth|joke\w*|nonsense|correct(?:ed|ion|s)|invented|nothing changes|
        as (?:it|they) (?:is|are|was|were)|remains?|stays?|unchanged|still|contrary
    """,
    "past": r"""
        was|were|had|did|used to|once|former(?:ly)?|then|back in|remember\w*|recall\w*|late|died|dead|death|ago|
        old days|those days|years? (?:earlier|before)|first (?:opened|built)|under h(?:im|er)|until (?:18|19|20)\d\d|
        in (?:1[6-9]\d\d|20[01]\d)
    """,
    "memory": r"""
        anniversar\w*|obituar\w*|died|dead|death|funeral|buried|mourn\w*|remember\w*|recall\w*|reminisc\w*|memor\w*|
        nostalgi\w*|archive\w*|history|historical|album|exhibition|museum|century|decades?|(?:years|long) ago|
        old (?:photograph|bill|poster|ledger|map)s?|jubilee|birthday|retired|look(?:s|ing|ed)? back|
        in (?:his|her|those) days?|from our files
    """,
}
WAYS_OF_TELLING = {
    way: re.compile(
        rf"\b(?:{''.join(line.strip() for line in words.splitlines())})\b", re.IGNORECASE
    )
    for way, words in _WAYS.items()
}  # by which a text tells that a value is new, to come, conditional, heard, denied, past or remembered
