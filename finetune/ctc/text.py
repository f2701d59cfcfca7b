"""From a transcript to characters and back."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

from common.encoder.checkpoint import Checkpoint
from common.records import StrataError

BLANK, START, END, UNKNOWN, SPACE = "<pad>", "<s>", "</s>", "<unk>", "|"
SPECIAL = (BLANK, START, END, UNKNOWN, SPACE)
TOKENIZER, VOCABULARY = "tokenizer_config.json", "vocab.json"
# In vocabularies that come without a tokenizer_config.json: transformers' own and its example's.
USUAL_NAMES = {
    "pad_token": (BLANK, "[PAD]", "<blank>"),
    "unk_token": (UNKNOWN, "[UNK]"),
    "word_delimiter_token": (SPACE, " "),
}
APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´＇", "'"))
ZERO_WIDTH_SPACE = (
    "\u200b"  # alone of the format characters it parts words, in scripts without spaces
)
LONE_APOSTROPHE = re.compile(r"(?<!\w)'+(?!\w)")


def normalise(text: str) -> str:
    """Upper-case words with single spaces: letters, digits and the apostrophes at or inside words.

    Unicode's compatibility forms are unified (NFKC), typographic apostrophes become '; hyphens,
    punctuation and symbols separate words. So "well-known — don't!" is "WELL KNOWN DON'T". Format
    characters, which nobody sees (soft hyphens, joiners, marks of direction), are taken out of
    their words.
    """
    seen = "".join(c for c in text if unicodedata.category(c) != "Cf" or c == ZERO_WIDTH_SPACE)
    text = unicodedata.normalize("NFKC", seen.translate(APOSTROPHES)).upper()
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return " ".join(LONE_APOSTROPHE.sub(" ", kept).split())


@dataclass(frozen=True)
class Vocabulary:
    """Characters by their number. `blank` is CTC's; | stands for a space, as in fairseq."""

    tokens: tuple[str, ...]
    blank: int

    @classmethod
    def of_text(cls, texts: Iterable[str]) -> Self:
        """Every character of some normalised texts, after the special ones."""
        characters = sorted({c for text in texts for c in text} - {" "})
        return cls((*SPECIAL, *characters), 0)

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, places: int | None = None) -> Self:
        """The characters of a checkpoint's tokenizer, whatever it calls the special ones.

        Tokenizers bring special ones that a head with so many `places` may never have had.
        """
        numbers = tokenizer.get_vocab()
        names = {
            tokenizer.pad_token: BLANK,
            tokenizer.bos_token: START,
            tokenizer.eos_token: END,
            tokenizer.unk_token: UNKNOWN,
            tokenizer.word_delimiter_token: SPACE,
        }
        tokens = [""] * (max(numbers.values()) + 1)
        for token, number in numbers.items():
            tokens[number] = names.get(token, SPACE if token == " " else token)
        if {*tokens[places:]} <= {START, END, UNKNOWN, SPACE}:
            tokens = tokens[:places]
        return cls(tuple(tokens), tokenizer.pad_token_id)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def number(self, character: str) -> int | None:
        """Number of a character, in lower case if the vocabulary is; None if it is not there."""
        token = SPACE if character == " " else character
        return self._numbers.get(token, self._numbers.get(token.lower()))

    def encode(self, text: str) -> list[int]:
        """Numbers of a normalised text's characters.

        What the vocabulary does not have is its unknown token or, without one, left out.
        """
        unknown = self._numbers.get(UNKNOWN)
        found = (self.number(c) for c in text)
        return [n for n in (unknown if n is None else n for n in found) if n is not None]

    def lacking(self, texts: Iterable[str]) -> dict[str, int]:
        """How often each character occurs that the vocabulary does not have."""
        return dict(Counter(c for text in texts for c in text if self.number(c) is None))

    def decode(self, frames: Sequence[int]) -> str:
        """Text of the best token of every frame: repeats are one, blanks are none (greedy CTC)."""
        kept = [n for i, n in enumerate(frames) if i == 0 or n != frames[i - 1]]
        return self.spell(n for n in kept if n != self.blank)

    def spell(self, numbers: Iterable[int]) -> str:
        """Text of tokens that a decoder put out, normalised as references are.

        Special tokens are silent.
        """
        tokens = (self.tokens[n] for n in numbers)
        return normalise("".join(" " if t == SPACE else t for t in tokens if len(t) == 1))

    def tokenizer(self, folder: Path) -> Wav2Vec2CTCTokenizer:
        """The same as a Hugging Face tokenizer; `folder` keeps its vocabulary."""
        file = folder / "vocab.json"
        numbers = {token: number for number, token in enumerate(self.tokens)}
        file.write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(file),
            unk_token=UNKNOWN,
            pad_token=BLANK,
            bos_token=START,
            eos_token=END,
            word_delimiter_token=SPACE,
        )


def read_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer that a fine-tuned checkpoint brings; an error where it brings none.

    A `vocab.json` alone will do: its special tokens are known by their usual names.
    """
    try:
        vocabulary = checkpoint.file((VOCABULARY,))
        try:
            checkpoint.file((TOKENIZER,))
        except StrataError:
            return _bare(vocabulary)
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    except (StrataError, OSError, ValueError, TypeError, AttributeError) as error:
        raise StrataError(
            f"finetune.characters=checkpoint: {checkpoint.asked} brings no tokenizer ({error}). "
            "Use finetune.characters=text"
        ) from error
    if not isinstance(tokenizer, Wav2Vec2CTCTokenizer):
        raise StrataError(
            f"finetune.characters=checkpoint: the {type(tokenizer).__name__} of {checkpoint.asked} "
            "does not spell words by their characters, with one token between them. Use "
            "finetune.characters=text"
        )
    return tokenizer


def _bare(file: Path) -> Wav2Vec2CTCTokenizer:
    """A tokenizer of a vocabulary that nothing but the names of its tokens describes."""
    numbers = json.loads(file.read_text(encoding="utf-8"))
    named = {
        key: next((name for name in names if name in numbers), names[0])
        for key, names in USUAL_NAMES.items()
    }
    if named["pad_token"] not in numbers:
        raise StrataError(
            f"{file} has none of {', '.join(USUAL_NAMES['pad_token'])}, one of which would be "
            "CTC's blank, and there is no tokenizer_config.json to name it"
        )
    return Wav2Vec2CTCTokenizer(str(file), **named)
