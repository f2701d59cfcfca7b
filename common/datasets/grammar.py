"""English sentences from a weighted grammar: `sentence(generator)` -> "the old man sang."."""

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from common.datasets import vocabulary as v

VERSION = 1  # bump when a seed would give other sentences
SHORTEST, LONGEST = 5, 20  # words

# Options with their weight. Capitals name another rule or a word class, the rest are words.
SENTENCE_RULES: Mapping[str, str] = {
    "S": """
        12 NPs VPs | 10 NPp VPp | 6 PRONs VPs | 8 PRONp VPp | 3 TIME , CLAUSE
        6 CLAUSE , and CLAUSE | 4 CLAUSE , but CLAUSE | 1 CLAUSE , or CLAUSE | 2 CLAUSE , so CLAUSE
        5 CLAUSE CONJUNCTION CLAUSE | 4 CONJUNCTION CLAUSE , CLAUSE | 6 QUESTION | 3 THERE
        3 it is ADJ-IDEA to VBASE | 2 it was ADJ-IDEA that CLAUSE | 2 ORDER | 2 i am VING
        3 i VPAST | 2 i MODAL VBASE
        2 this is NPs | 2 these are NPp | 2 that was NPs that CLAUSE-GAP | 1 COMPARE | 2 PASSIVE
    """,
    "CLAUSE": "5 NPs VPs | 4 NPp VPp | 4 PRONs VPs | 5 PRONp VPp | 2 i VPAST | 1 PASSIVE",
    "CLAUSE-GAP": "2 NPs VT-PAST | 2 PRONs VT-PAST | 2 PRONp VT-PAST",
    "QUESTION": """
        3 did NPs VBASE ? | 2 did PRONp VBASE ? | 2 does NPs VBASE ? | 3 do PRONp VBASE ?
        2 where did NPs go ? | 2 why did PRONs VBASE ? | 2 who VPAST ? | 2 what did PRONp VT-BASE ?
        2 when will NPs VBASE ? | 1 how many THINGp are there PP ? | 2 can you VBASE ?
        1 which THING did NPs VT-BASE ? | 1 how ADJ is NPs ? | 2 is NPs ADJ ?
        1 whose THING is this ?
    """,
    "THERE": """
        3 there was NPs PP | 3 there were NUMBER ADJ THINGp PP | 2 there is no MASS PP
        2 there are many ANIMALp PP | 1 there were some PERSONp who VPAST | 1 here are NPp of NPs
    """,
    "ORDER": "2 please VBASE | 2 do not VBASE | 2 let us VBASE | 1 come here and VBASE",
    "COMPARE": """
        2 NPs is COMPARATIVE than NPs | 1 NPs is more ADJ than NPs | 1 NPs is as ADJ as NPs
        1 NPp are the most ADJ THINGp of all
    """,
    "PASSIVE": """
        3 NPs was VT-DONE by NPs | 2 NPp were VT-DONE by NPp | 1 NPs has been VT-DONE
        1 NPs will be VT-DONE
    """,
    "NPs": """
        10 DETs NOMs | 4 DETs ADJ NOMs | 2 DETs DEGREE ADJ NOMs | 4 NAME | 2 the ORDINAL NOMs
        2 DETs PERSON 's NOMs | 4 the NOMs of DETs NOMs | 2 DETs NOMs PP | 2 NAME 's NOMs
        1 DETs PERSON who VPAST | 1 the THING that CLAUSE-GAP | 1 DETs NOMs and DETs NOMs
        1 each NOMs | 1 another NOMs | 1 one of DETp NOMp | 1 no one | 1 everyone | 1 someone
        1 everybody | 1 nothing | 1 something | 1 DETs ADJ and ADJ NOMs | 1 the same NOMs
        2 the MASS
    """,
    "NPp": """
        8 DETp NOMp | 4 DETp ADJ NOMp | 3 NUMBER NOMp | 2 many NOMp | 1 some NOMp | 1 all the NOMp
        1 PERSONp and ANIMALp | 2 NAME and NAME | 1 DETp NOMp PP | 1 most of the NOMp
        1 several NOMp
        1 DETp PERSONp who VPAST | 1 a few NOMp | 1 the NOMp of DETs NOMs | 1 both NOMp
        1 PERSONp | 1 the NUMBER NOMp
    """,
    "NOMs": "8 PERSON | 4 ANIMAL | 1 THING | 1 COLOUR THING | 1 PLACE | 1 IDEA",
    "NOMp": "8 PERSONp | 4 ANIMALp | 1 THINGp | 1 COLOUR THINGp | 1 PLACEp | 1 IDEAp",
    "DETs": """
        24 the | 12 a | 3 his | 3 her | 3 my | 2 their | 2 our | 2 your | 2 this | 2 that | 1 its
        1 every
    """,
    "DETp": "20 the | 3 his | 3 her | 3 my | 3 their | 2 our | 2 your | 2 these | 2 those",
    "PRONs": "10 he | 8 she | 6 it | 1 nobody | 1 somebody",
    "PRONp": "8 you | 8 they | 7 we",
    "OBJ": "4 him | 4 her | 4 them | 4 me | 3 us | 4 you | 5 it",
    "VPs": """
        10 VPAST | 3 VPRES | 3 was VING | 2 is VING | 3 MODAL VBASE | 2 has VDONE | 2 had VDONE
        2 OFTEN VPAST | 2 does not VBASE | 2 did not VBASE | 2 was DEGREE ADJ | 2 is ADJ | 1 was NPs
        1 is OFTEN ADJ | 1 MODAL not VBASE | 1 MODAL have VDONE | 1 was going to VBASE
        1 was VING , too | 1 seemed to be ADJ | 1 became DEGREE ADJ
    """,
    "VPp": """
        10 VPAST | 4 VBASE | 2 were VING | 2 are VING | 3 MODAL VBASE | 3 have VDONE | 1 had VDONE
        2 OFTEN VPAST | 2 do not VBASE | 2 did not VBASE | 1 were ADJ | 1 are DEGREE ADJ
        1 MODAL have VDONE | 1 are going to VBASE | 1 do n't VBASE | 1 ca n't VBASE
        1 would OFTEN VBASE | 1 have never been PP
    """,
    "MODAL": "6 will | 6 would | 5 can | 5 could | 3 must | 3 should | 2 may | 2 might | 1 shall",
}

# The verb phrase, once for each form: F stands for BASE, PRES, PAST, DONE or ING.
VERB_PHRASE = """
    8 VT-F OBJECT | 4 VT-F OBJECT PP | 4 VH-F PEOPLE | 2 VH-F PEOPLE MANNER | 3 VM-F IDEAS
    4 VI-F PP | 4 VI-F MANNER | 3 VI-F MANNER PP | 3 VI-F WHEN | 3 VI-F PP WHEN
    2 VT-F OBJECT WHEN | 2 VI-F and VI-F | 1 VT-F OBJECT MANNER | 1 VI-F with PEOPLE
    1 VT-F OBJECT for PEOPLE
"""
STATIVE_PHRASE = (
    "3 VS-F that CLAUSE | 1 VS-F CLAUSE | 4 VX-F to VBASE"  # "is wanting to" is not said
)
FORMS = ("BASE", "PRES", "PAST", "DONE", "ING")
RULES: Mapping[str, str] = {
    **SENTENCE_RULES,
    **{f"V{form}": f"{VERB_PHRASE}{STATIVE_PHRASE}".replace("-F", f"-{form}") for form in FORMS},
    "VING": VERB_PHRASE.replace("-F", "-ING"),
    "OBJECT": """
        4 DETs THING | 3 DETp THINGp | 2 DETs ADJ THING | 2 OBJ | 1 DETs COLOUR THING
        1 the MASS | 1 some MASS
    """,
    "PEOPLE": "3 OBJ | 3 DETs PERSON | 2 DETp PERSONp | 2 NAME | 1 DETs ANIMAL | 1 DETp ANIMALp",
    "IDEAS": "4 DETs IDEA | 2 DETp IDEAp | 2 it | 1 DETs ADJ IDEA | 1 everything",
    "PP": """
        6 PLACE-PREP the PLACE | 2 PLACE-PREP DETs ADJ PLACE | 2 PLACE-PREP DETp PLACEp
        3 THING-PREP DETs THING | 2 THING-PREP DETp THINGp | 1 with DETs PERSON | 2 in DETs PLACE
        1 out of the PLACE | 1 from DETs PLACE to DETs PLACE | 1 by the PLACE
    """,
    "TIME": "3 one WHEN-NOUN | 2 in the WHEN-NOUN | 2 on that WHEN-NOUN | 1 NUMBER days ago",
    "WHEN": """
        4 WHEN-WORD | 2 every WHEN-NOUN | 2 last WHEN-NOUN | 1 at night | 1 for NUMBER hours
        1 until the WHEN-NOUN | 1 all WHEN-NOUN | 1 for a while
    """,
}

WORD_CLASSES: Mapping[str, list[str]] = {
    "NAME": v.NAMES,
    "MASS": v.MASS,
    "ADJ": v.ADJECTIVES,
    "ADJ-IDEA": v.ADJECTIVES_IDEA,
    "COLOUR": v.COLOURS,
    "COMPARATIVE": v.COMPARATIVES,
    "MANNER": v.ADVERBS_MANNER,
    "OFTEN": v.ADVERBS_OFTEN,
    "WHEN-WORD": v.ADVERBS_TIME,
    "WHEN-NOUN": v.TIMES,
    "DEGREE": v.DEGREES,
    "PLACE-PREP": v.PREPOSITIONS_PLACE,
    "THING-PREP": v.PREPOSITIONS_THING,
    "NUMBER": v.NUMBERS,
    "ORDINAL": v.ORDINALS,
    "CONJUNCTION": v.CONJUNCTIONS,
}
NOUNS = {
    "PERSON": v.PEOPLE,
    "ANIMAL": v.ANIMALS,
    "THING": v.THINGS,
    "PLACE": v.PLACES,
    "IDEA": v.ABSTRACT,
}
VERBS = {
    "VT": v.VERBS_THING,
    "VH": v.VERBS_PERSON,
    "VM": v.VERBS_IDEA,
    "VI": v.VERBS_INTRANSITIVE,
    "VS": v.VERBS_SAY,
    "VX": v.VERBS_TO,
}

# Words, and beginnings of words, whose first sound is not what their first letter says.
AN_ANYWAY = frozenset(("honest", "honour", "hour"))
A_ANYWAY = ("one", "once", "univ", "useful")
CLITICS = frozenset(("'s", "n't"))


def sentence(generator: np.random.Generator, words_per_class: int | None = None) -> str:
    """One sentence of 5 to 20 words, lower case, with commas and a final "." or "?".

    Of each word class (nouns for persons, verbs with an object, …) only the `words_per_class` most
    frequent are said; all of them by default.
    """
    while True:
        tokens = list(_expand("S", generator, 0, words_per_class))
        n = sum(token not in {",", "?"} and token not in CLITICS for token in tokens)
        if SHORTEST <= n <= LONGEST:
            return _spell(tokens)


def words(text: str) -> tuple[str, ...]:
    """The words of a sentence in order, without punctuation: "he's in, too." -> he's, in, too."""
    return tuple(text.replace(",", " ").replace(".", " ").replace("?", " ").split())


def zipf_weights(n: int) -> NDArray[np.float64]:
    """(n,) probabilities that fall off as 1 / (rank + 1): Zipf and Mandelbrot's law."""
    weights = 1.0 / (np.arange(n) + 2.0)
    return weights / weights.sum()


def _expand(
    symbol: str, generator: np.random.Generator, depth: int, words_per_class: int | None
) -> Iterator[str]:
    """Words and punctuation of `symbol`; deep expansions take a rule's first, plainest option."""
    classes = _classes(words_per_class)
    if symbol in classes:
        entries, cumulative = classes[symbol]
        yield entries[int(np.searchsorted(cumulative, generator.random(), side="right"))]
    elif symbol in _productions():
        options, cumulative = _productions()[symbol]
        chosen = int(np.searchsorted(cumulative, generator.random(), side="right"))
        for token in options[0 if depth > 6 else chosen]:
            yield from _expand(token, generator, depth + 1, words_per_class)
    else:
        yield symbol


def _spell(tokens: list[str]) -> str:
    """Join tokens to text: a or an, clitics and commas attached, a final mark."""
    text = ""
    final = "."
    for i, token in enumerate(tokens):
        if token == "?":
            final = "?"
        elif token == "," or token in CLITICS:
            text += token
        else:
            following = tokens[i + 1] if i + 1 < len(tokens) else ""
            text += f" {'an' if token == 'a' and _takes_an(following) else token}"
    return text.strip() + final


def _takes_an(word: str) -> bool:
    return word in AN_ANYWAY or (word.startswith(tuple("aeiou")) and not word.startswith(A_ANYWAY))


@cache
def _productions() -> dict[str, tuple[list[list[str]], NDArray[np.float64]]]:
    """Rule -> its options as token lists, and their cumulative probabilities (n,)."""
    productions = {}
    for name, text in RULES.items():
        options = [
            option.split() for line in text.strip().splitlines() for option in line.split("|")
        ]
        weights = np.array([float(option[0]) for option in options])
        cumulative = np.cumsum(weights / weights.sum())
        cumulative[-1] = 1.0
        productions[name] = ([option[1:] for option in options], cumulative)
    return productions


@cache
def _classes(words_per_class: int | None) -> dict[str, tuple[list[str], NDArray[np.float64]]]:
    """Word class -> its first words by rank, and their cumulative Zipf probabilities (n,)."""
    lists = dict(WORD_CLASSES)
    for name, entries in NOUNS.items():
        pairs = [_noun(entry) for entry in dict.fromkeys(entries)]
        lists[name] = [singular for singular, _ in pairs]
        lists[f"{name}p"] = [plural for _, plural in pairs]
    for name, entries in VERBS.items():
        inflected = [_verb(entry) for entry in dict.fromkeys(entries)]
        for i, form in enumerate(FORMS):
            lists[f"{name}-{form}"] = [forms[i] for forms in inflected]
    classes = {}
    for name, full in lists.items():
        entries = full[:words_per_class]
        cumulative = np.cumsum(zipf_weights(len(entries)))
        cumulative[-1] = 1.0
        classes[name] = (entries, cumulative)
    return classes


def _noun(entry: str) -> tuple[str, str]:
    """Singular and plural of "man:men" or "box"."""
    singular, _, irregular = entry.partition(":")
    return singular, irregular or _add_s(singular)


def _verb(entry: str) -> tuple[str, str, str, str, str]:
    """The five FORMS of "see:saw:seen", "cut+:cut:cut", "stop+" or "carry"."""
    stem, *irregular = entry.split(":")
    base = stem.removesuffix("+")
    doubled = base + base[-1] if stem.endswith("+") else base
    if base.endswith("e") and not base.endswith(("ee", "ye", "oe")):
        ing = base.removesuffix("e") + "ing"
    else:
        ing = doubled + "ing"
    if base in {"tie", "lie", "die"}:
        ing = base[0] + "ying"
    past, done = irregular or [_add_ed(base, doubled)] * 2
    return base, _add_s(base), past, done, ing


def _add_s(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return "stomachs" if word == "stomach" else word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "es" if word in {"potato", "tomato", "go", "do", "echo", "hero"} else word + "s"


def _add_ed(base: str, doubled: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    return doubled + "ed"
