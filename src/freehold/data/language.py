"""A guess at the language of a text: by its script, and for the Latin and Cyrillic ones by words and letters.

Good for telling what most rows are written in; short texts and close relatives (Danish and Norwegian) are often wrong.
Codes are ISO 639-1.
"""

import re
import unicodedata
from collections import Counter
from functools import cache

UNKNOWN = "unknown"
_MOST = 2000
"""Characters that are looked at."""
_WORD = re.compile(r"[^\W\d_]+")
_FUNCTION_WORDS = {
    "en": (
        "the of and to in is that it for you was with on as are this be have not at from or your can what "
        "how do i who which when where why will would they we his her their our my has had were if but may "
        "only does did there any some all about an by no its than then them these been"
    ),
    "de": (
        "der die das und ist nicht ich zu den mit sie ein eine auf für es dem von wie im werden sich kann "
        "wir bei ihr aber oder wenn noch nur nach am um aus war hat haben sind wird was wo wer warum mein "
        "meine ihre kein bitte mehr vom zum zur einen einem einer dass"
    ),
    "fr": (
        "le la les et est des une un pas je vous que qui dans pour sur avec il nous au ce ne plus du votre "
        "comment mais ou où quand mon ma mes notre leur elle ils sont avez avoir être cette ces aux par si "
        "son sa ses puis faire comme tout"
    ),
    "es": (
        "el la los que de y en un una es no por con para se las del lo su mi como está pero más usted qué "
        "cómo puedo o si cuando donde dónde cuándo mis tu sus al le les son ser tiene hay este esta esto "
        "muy todo sin sobre nos ha"
    ),
    "it": (
        "il la che di e non un una per è sono con come del della mi si lo gli nel anche più questo ho posso "
        "dove ma o se quando al alla dei delle nella questa suo mio dal da tutto senza hanno siamo era "
        "perché ci le i"
    ),
    "pt": (
        "o a os que de e não um uma para com é em do da se por como mais no na mas eu seu você meu está "
        "posso onde ou quando ao à dos das nos nas este esta isso ele ela são ser tem há muito sem sobre "
        "foi pelo pela"
    ),
    "nl": (
        "de het een en van ik is dat niet je te op voor met zijn er aan hoe kan wat ook maar deze bij naar "
        "mijn u of als waar wanneer wie waarom uit over nog al zo hun haar hij zij worden kunnen heeft "
        "hebben was wordt dit door geen"
    ),
    "sv": "och att det i en jag som är på för med inte den ett har om du kan hur var till av vi så mig min när",
    "da": "og at det i en jeg som er på for med ikke den et har om du kan hvordan til af vi så mig min når hvad blev",
    "nb": "og at det i en jeg som er på for med ikke den et har om du kan hvordan til av vi så meg min når hva ble",
    "fi": "ja on ei se että en oli mutta kun hän minun voi miten mikä tämä jos niin ovat mitä kanssa minä ole sinun",
    "pl": "i w nie na się jest to że do z jak co czy mogę jestem dla ale po tak moje mnie od przez gdzie proszę za",
    "cs": "a je se v na to že s jak pro ale co by jsem když tak si můj mohu kde jsou není od do které nebo už",
    "sk": "a je sa v na to že s ako pre ale čo by som keď tak si môj môžem kde sú nie od do ktoré alebo už",
    "hu": "a az és hogy nem egy is van ez meg de mi azt csak ha már volt vagy kell hogyan lehet mert miért el ezt",
    "ro": "și de la în nu este un o cu pe că să pentru mai din ce cum sunt care am fi dar sau unde dacă vă pot",
    "tr": "ve bir bu için ne da de ile çok var ben mi nasıl olarak daha değil ama kadar gibi benim nerede bana o",
    "id": "yang dan di untuk dengan tidak ini itu dari saya ke pada apa adalah bisa ada anda akan bagaimana atau",
    "vi": "là và của có không tôi cho trong một được với này bạn các người như đã để khi những làm thế nào gì",
    "ca": "el la que de i en un una és no per amb els les del com més són aquest al però què pot està meva",
    "hr": "je i u se na da za su od ne što kako ali to s ja može sam kao ili mi koji bi iz nije gdje",
    "et": "ja on ei see et ta oli kui aga mis ma kas kuidas või ka oma seda siis mul saab mida kus",
    "lt": "ir yra ne kad su į tai iš kaip bet aš ar mano kas jis už gali buvo prie nuo kur",
    "lv": "un ir ne ka ar uz par tas no es kā bet vai mans kas lai var bija kur to pie",
    "sw": "na ya wa kwa ni katika la za hii kuwa si cha je kama mimi nini vipi hiyo wewe kwamba",
    "tl": "ang ng sa na mga ay at ko hindi ito para kung ako mo paano ano po si ka may",
}
_CYRILLIC = (("uk", "іїєґ"), ("sr", "јљњђћџ"), ("be", "ў"), ("ru", "ыэё"), ("bg", "ъ"))
"""Letters that tell a language, the surest first."""
_ARABIC = (("ur", "ٹڈےں"), ("fa", "پچژگ"))
_SCRIPTS = {
    "ARABIC": "ar", "HEBREW": "he", "GREEK": "el", "DEVANAGARI": "hi", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te",
    "KANNADA": "kn", "MALAYALAM": "ml", "GUJARATI": "gu", "GURMUKHI": "pa", "THAI": "th", "LAO": "lo", "KHMER": "km",
    "MYANMAR": "my", "GEORGIAN": "ka", "ARMENIAN": "hy", "ETHIOPIC": "am", "SINHALA": "si", "HANGUL": "ko",
    "CYRILLIC": "ru", "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja",
}  # fmt: skip


def guess(text: str) -> str:
    """The likeliest language; `unknown` where little tells one."""
    text = unicodedata.normalize("NFC", text[:_MOST]).casefold()
    scripts = Counter(_script(character) for character in text if character.isalpha())
    if not scripts:
        return UNKNOWN
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > scripts.total() / 20:
        return "ja"
    script = max(sorted(scripts), key=scripts.__getitem__)
    if script == "LATIN":
        return _latin(text)
    if script in ("CYRILLIC", "ARABIC"):
        marks = _CYRILLIC if script == "CYRILLIC" else _ARABIC
        return next((code for code, letters in marks if any(letter in text for letter in letters)), _SCRIPTS[script])
    return _SCRIPTS.get(script, UNKNOWN)


@cache
def _script(character: str) -> str:
    """The first word of a letter's name, which for letters is their script."""
    return unicodedata.name(character, "").partition(" ")[0]


@cache
def _languages() -> dict[str, frozenset[str]]:
    """Which languages a function word belongs to."""
    found: dict[str, set[str]] = {}
    for code, words in _FUNCTION_WORDS.items():
        for word in words.split():
            found.setdefault(word, set()).add(code)
    return {word: frozenset(codes) for word, codes in found.items()}


def _latin(text: str) -> str:
    """The language with most function words, each counting less the more languages share it."""
    words = _WORD.findall(text)
    scores: Counter[str] = Counter()
    for word in words:
        codes = _languages().get(word, frozenset())
        for code in codes:
            scores[code] += 60 // len(codes)
    (best, score), *others = [*scores.most_common(2), (UNKNOWN, 0)]
    # One word that several languages know tells nothing, nor does a tie.
    return best if score >= 60 and score > others[0][1] and score >= 3 * len(words) else UNKNOWN
