"""From a transcript to characters and back."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

from common.checkpoint import Checkpoint
from common.records import StrataError

BLANK, START, END, UNKNOWN, SPACE = "<pad>", "<s>", "</s>", "<unk>", "|"
SPECIAL = (BLANK, START, END, UNKNOWN, SPACE)
TOKENIZER_FILES = ("tokenizer_config.json", "vocab.json")
APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´＇", "'"))
LONE_APOSTROPHE = re.compile(r"(?<!\w)'+(?!\w)")


def normalise(text: str) -> str:
    """Upper-case words with single spaces: letters, digits and the apostrophes at or inside words.

    Unicode's compatibility forms are unified (NFKC), typographic apostrophes become '; hyphens,
    punctuation and symbols separate words. So "well-known — don't!" is "WELL KNOWN DON'T".
    """
    text = unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).upper()
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

        Tokenizers bring a start and an end that a head with so many `places` may never have had.
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
            tokens[number] = names.get(token, token)
        if {*tokens[places:]} <= {START, END}:
            tokens = tokens[:places]
        return cls(tuple(tokens), tokenizer.pad_token_id)

    @property
    def unknown(self) -> int:
        """Number of what stands for any other character."""
        return self.tokens.index(UNKNOWN)

    def encode(self, text: str) -> list[int]:
        """Numbers of a normalised text's characters; in lower case if the vocabulary is."""
        numbers = {token: number for number, token in enumerate(self.tokens)}
        spelt = [SPACE if c == " " else c for c in text]
        return [numbers.get(c, numbers.get(c.lower(), self.unknown)) for c in spelt]

    def lacking(self, texts: Iterable[str]) -> dict[str, int]:
        """How often each character occurs that the vocabulary does not have."""
        counts: dict[str, int] = {}
        for text in texts:
            for character, number in zip(text, self.encode(text), strict=True):
                if number == self.unknown:
                    counts[character] = counts.get(character, 0) + 1
        return counts

    def decode(self, frames: Sequence[int]) -> str:
        """Text of the best token of every frame: repeats are one, blanks are none (greedy CTC)."""
        kept = [n for i, n in enumerate(frames) if i == 0 or n != frames[i - 1]]
        return self.spell(n for n in kept if n != self.blank)

    def spell(self, numbers: Iterable[int]) -> str:
        """Text of tokens that a decoder put out; special tokens are silent."""
        tokens = (self.tokens[n] for n in numbers)
        text = "".join(" " if t == SPACE else t for t in tokens if len(t) == 1)
        return " ".join(text.upper().split())

    def tokenizer(self, folder: Path) -> Wav2Vec2CTCTokenizer:
        """The same as a Hugging Face tokenizer; `folder` keeps its vocabulary."""
        import json

        file = folder / "vocab.json"
        numbers = {token: number for number, token in enumerate(self.tokens)}
        file.write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(file), unk_token=UNKNOWN, pad_token=BLANK, bos_token=START, eos_token=END,
            word_delimiter_token=SPACE,
        )  # fmt: skip


def read_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer that a fine-tuned checkpoint brings; an error where it brings none."""
    try:
        for name in TOKENIZER_FILES:
            checkpoint.file((name,))
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    except (StrataError, OSError, ValueError) as error:
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
