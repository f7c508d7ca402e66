import pytest

from cmt.stream._languages import language_notice, language_of

TEXTS = {
    "English": "The harbour mole is 310 metres long and was built in 1902 by the harbour board.",
    "German": "Der Stadtrat hat am Dienstag beschlossen, die Brücke über den Fluss zu erneuern.",
    "French": (
        "Le conseil municipal a décidé mardi de rénover le pont sur la rivière, ont dit les élus."
    ),
    "Spanish": (
        "El ayuntamiento decidió el martes renovar el puente sobre el río, según la alcaldesa."
    ),
    "Italian": (
        "Il consiglio comunale ha deciso di rinnovare il ponte sul fiume, ha detto il sindaco."
    ),
    "Dutch": "De gemeenteraad heeft dinsdag besloten de brug over de rivier te vernieuwen.",
    "Swedish": (
        "Kommunfullmäktige beslutade på tisdagen att renovera bron, och det är en stor kostnad."
    ),
    "in Cyrillic script": "Городской совет решил во вторник отремонтировать мост через реку.",
    "Japanese": "市議会は火曜日に川にかかる橋を改修することを決めたということです。",
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_sentence_is_found(language: str) -> None:
    assert language_of(TEXTS[language]) == language
    assert language_of("Gauge 12 at Lower Weir") is None


def test_documents_that_the_compressor_was_not_trained_on_are_counted() -> None:
    assert language_notice([TEXTS["English"], "Gauge 12"]) is None
    notice = language_notice([TEXTS["English"], *[TEXTS["German"]] * 2], sampled=True)
    assert notice is not None and notice.startswith(
        "2 of 3 sampled documents are German: the shipped compressor reads"
    )
