"""From probabilities of characters to text: the best path, or a beam search with a word n-gram."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from common.config.finetune import LanguageModelConfig
from common.progress import progress
from common.records import StrataError
from finetune.ctc.alignment import Probabilities
from finetune.ctc.scoring import count_errors
from finetune.ctc.text import SPACE, Vocabulary, normalise

log = logging.getLogger(__name__)

ARPA_UNIGRAMS, ARPA_SPECIAL = "\\1-grams:", ("<s>", "</s>", "<unk>")
ARPA_SECTION = re.compile(r"\\(\d+)-grams:")
BEAM_TOKENS = 50  # characters that a hypothesis is tried with at every frame: in effect all
BEAM_THRESHOLD = 50.0  # hypotheses that are less likely than the best by more are dropped
NEVER = -1e4  # logarithm of a probability


@dataclass(frozen=True)
class BeamSearch:
    """Beam search by flashlight-text: words of a lexicon, weighed by a KenLM n-gram.

    A hypothesis scores log p(characters) + weight * log10 p(words) + word_score * words.
    """

    recipe: LanguageModelConfig
    vocabulary: Vocabulary
    words: tuple[str, ...]

    def decoder(self, weight: float, word_score: float) -> "Decoder":
        """One with the n-gram's weight and the reward of a word given."""
        from flashlight.lib.text.decoder import (
            CriterionType,
            LexiconDecoder,
            LexiconDecoderOptions,
        )
        from flashlight.lib.text.dictionary import create_word_dict

        vocabulary = self.vocabulary
        space = vocabulary.tokens.index(SPACE)
        spellings = {word: [*vocabulary.encode(word), space] for word in self.words}
        dictionary = create_word_dict({word: [] for word in (*spellings, "<unk>")})
        lm = read_ngram(str(self.recipe.path), dictionary)
        trie = spelling_trie(spellings, len(vocabulary.tokens), space, dictionary, lm)
        options = LexiconDecoderOptions(
            beam_size=self.recipe.beam,
            beam_size_token=min(BEAM_TOKENS, len(vocabulary.tokens)),
            beam_threshold=BEAM_THRESHOLD,
            lm_weight=weight,
            word_score=word_score,
            unk_score=-inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=CriterionType.CTC,
        )
        unknown = dictionary.get_index("<unk>")
        search = LexiconDecoder(options, trie, lm, space, vocabulary.blank, unknown, [], False)
        return Decoder(search, dictionary, space, (trie, lm))

    def tune(
        self, probabilities: Sequence[Probabilities], references: Sequence[str]
    ) -> tuple["Decoder", dict[str, float]]:
        """The decoder with fewest word errors on validation, and what it was set to."""
        best: tuple[int, Decoder, dict[str, float]] | None = None
        grid = list(product(self.recipe.weights, self.recipe.word_scores))
        for weight, word_score in progress(grid, "tuning the n-gram", "settings"):
            decoder = self.decoder(weight, word_score)
            texts = [decoder(one) for one in probabilities]
            errors = sum(count_errors(r, t)[0] for r, t in zip(references, texts, strict=True))
            if best is None or errors < best[0]:
                best = errors, decoder, {"weight": weight, "word_score": word_score}
        if best is None:
            raise StrataError("finetune.lm.weights is empty: give one or more")
        log.info("n-gram: %s, %d word errors on validation", best[2], best[0])
        return best[1], best[2]


def read_ngram(path: str, dictionary: Any) -> Any:
    """The n-gram of a file, by KenLM."""
    from flashlight.lib.text.decoder.kenlm import KenLM

    try:
        with TemporaryDirectory() as scratch:
            return KenLM(str(_tabbed(Path(path).expanduser(), Path(scratch))), dictionary)
    except RuntimeError as error:
        reason = str(error).rsplit("\n")[-1]
        raise StrataError(
            f"finetune.lm.path={path}: KenLM cannot read it ({reason}). It takes n-grams of two "
            "words or more, as ARPA text or in its own binary format"
        ) from error


def _tabbed(path: Path, scratch: Path) -> Path:
    """An ARPA file with tabs around its words, which KenLM insists on and some programs do not."""
    if path.suffix != ".arpa":
        return path
    with path.open(encoding="utf-8") as lines:
        inside = False
        for line in lines:
            if inside and line.strip():
                break
            inside = line.strip() == ARPA_UNIGRAMS
        else:
            return path
        if "\t" in line:
            return path
        lines.seek(0)
        order = 0
        with (scratch / path.name).open("w", encoding="utf-8") as out:
            for line in lines:
                section = ARPA_SECTION.fullmatch(line.strip())
                order = int(section[1]) if section else order
                fields = line.split()
                if order and not line.startswith("\\") and fields:
                    words = " ".join(fields[1 : order + 1])
                    line = "\t".join([fields[0], words, *fields[order + 1 :]]) + "\n"
                out.write(line)
    return scratch / path.name


def spelling_trie(
    spellings: Mapping[str, Sequence[int]], tokens: int, space: int, dictionary: Any, lm: Any
) -> Any:
    """The words by their characters, each as likely as the n-gram has it at the start."""
    from flashlight.lib.text.decoder import SmearingMode, Trie

    trie = Trie(tokens, space)
    start = lm.start(False)
    for word, numbers in spellings.items():
        index = dictionary.get_index(word)
        trie.insert(numbers, index, lm.score(start, index)[1])
    trie.smear(SmearingMode.MAX)
    return trie


@dataclass(frozen=True)
class Decoder:
    """A search that is set up; it keeps what flashlight-text only points to.

    `space`: number of the token that ends a word.
    """

    search: Any
    dictionary: Any
    space: int
    kept: tuple[Any, ...]

    def __call__(self, probabilities: Probabilities) -> str:
        """Words of the best hypothesis for (T, V) log probabilities.

        The search counts a word once its space is emitted, and transcripts do not end with one: the
        end of the utterance is one more frame, of a space.
        """
        t, v = probabilities.shape
        emissions = np.full((t + 1, v), NEVER, np.float32)
        emissions[:t] = probabilities
        emissions[t, self.space] = 0.0
        found = self.search.decode(emissions.ctypes.data, t + 1, v)
        words = [self.dictionary.get_entry(k) for k in found[0].words if k >= 0] if found else []
        return " ".join(words)


def read_lexicon(recipe: LanguageModelConfig) -> list[str]:
    """Words that may be recognised: the first of each of a file's lines, or an ARPA's 1-grams."""
    if find_spec("flashlight") is None:
        raise StrataError(
            f"finetune.lm.path={recipe.path}: beam search needs the extra lm: "
            "pip install 'strata[lm]'"
        )
    path = Path(recipe.lexicon or str(recipe.path)).expanduser()
    try:
        with path.open(encoding="utf-8") as lines:
            if recipe.lexicon is None:
                words = [word for word in _unigrams(lines) if word not in ARPA_SPECIAL]
            else:
                words = [fields[0] for line in lines if (fields := line.split())]
    except UnicodeDecodeError as error:
        raise StrataError(f"{path}: byte {error.start} is not UTF-8: save it as UTF-8") from error
    kept = list(dict.fromkeys(word for word in words if normalise(word) == word))
    if not kept:
        raise StrataError(
            f"{path}: no words as transcripts are normalised (upper case, letters and '), of "
            f"{len(words)} there. Train the n-gram on text of that form"
        )
    if len(kept) < len(words):
        log.warning(
            "%s: %d of %d words cannot be recognised: they are not upper-case letters, "
            "digits and '",
            path,
            len(words) - len(kept),
            len(words),
        )
    return kept


def _unigrams(lines: Iterable[str]) -> Iterable[str]:
    """Words of an ARPA file's 1-grams: each stands between its probability and its back-off."""
    inside = False
    for line in lines:
        fields = line.split()
        if line.startswith("\\"):
            if inside:
                return
            inside = line.strip() == ARPA_UNIGRAMS
        elif inside and len(fields) > 1:
            yield fields[1]


def beam_search(recipe: LanguageModelConfig, vocabulary: Vocabulary) -> BeamSearch | None:
    """The search that a recipe asks for, or None: words that cannot be spelt are left out."""
    if recipe.path is None:
        return None
    if vocabulary.targets != "characters":
        raise StrataError(
            f"finetune.lm.path={recipe.path}: the model writes {vocabulary.targets}, and an n-gram "
            "of words goes with characters"
        )
    words = read_lexicon(recipe)
    spellable = tuple(word for word in words if not vocabulary.lacking([word]))
    if len(spellable) < len(words):
        log.warning(
            "n-gram: %d of %d words have characters that the model cannot write",
            len(words) - len(spellable),
            len(words),
        )
    if not spellable:
        raise StrataError(
            f"finetune.lm.path={recipe.path}: none of its {len(words)} words, such as "
            f"{', '.join(words[:3])}, can be written in the model's characters "
            f"({''.join(t for t in vocabulary.tokens if len(t) == 1)}). Use an n-gram of the "
            "language that is trained on, or finetune.characters=text"
        )
    if SPACE not in vocabulary.tokens:
        raise StrataError(
            f"finetune.lm.path={recipe.path}: the model's characters have none that separates "
            "words, which an n-gram of words needs. Use finetune.characters=text"
        )
    search = BeamSearch(recipe, vocabulary, spellable)
    search.decoder(0.0, 0.0)  # raises before the training if the file cannot be read
    return search
