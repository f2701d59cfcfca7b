"""From a transcript or an alignment to what a model writes, and back."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    ParakeetTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2PhonemeCTCTokenizer,
)

from common.encoder.checkpoint import Checkpoint
from common.records import StrataError, Utterance

BLANK, START, END, UNKNOWN, SPACE = "<pad>", "<s>", "</s>", "<unk>", "|"
SILENT = (BLANK, START, END, UNKNOWN)
SPECIAL = (*SILENT, SPACE)
WORD_START = "▁"  # before the first piece of a word, as in SentencePiece
MOST_PHONES = 1000  # more different symbols than any language has phones with their tones
TOKENIZER, VOCABULARY, PIECES = "tokenizer_config.json", "vocab.json", "tokenizer.json"
# In vocabularies that come without a tokenizer_config.json: transformers' own and its example's.
USUAL_NAMES = {
    "pad_token": (BLANK, "[PAD]", "<blank>"),
    "unk_token": (UNKNOWN, "[UNK]"),
    "word_delimiter_token": (SPACE, " "),
}
APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´＇", "'"))
# The only format character that separates words, in scripts without spaces.
ZERO_WIDTH_SPACE = "\u200b"
LONE_APOSTROPHE = re.compile(r"(?<!\w)'+(?!\w)")
# Unicode's names of the letters of scripts that do not separate words by spaces begin so.
SPACELESS = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
)


def normalise(text: str) -> str:
    """Upper-case words with single spaces: letters, digits and the apostrophes at or inside words.

    Unicode's compatibility forms are unified (NFKC), typographic apostrophes become '; hyphens,
    punctuation and symbols separate words. So "well-known — don't!" is "WELL KNOWN DON'T". Format
    characters, which are invisible (soft hyphens, joiners, marks of direction), are taken out of
    their words.
    """
    seen = "".join(c for c in text if unicodedata.category(c) != "Cf" or c == ZERO_WIDTH_SPACE)
    text = unicodedata.normalize("NFKC", seen.translate(APOSTROPHES)).upper()
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return " ".join(LONE_APOSTROPHE.sub(" ", kept).split())


def without_spaces(texts: Iterable[str]) -> bool:
    """Whether most letters of some texts are of scripts that do not separate words by spaces."""
    letters = Counter(c for text in texts for c in text if unicodedata.category(c)[0] == "L")
    spaceless = sum(n for c, n in letters.items() if unicodedata.name(c, "").startswith(SPACELESS))
    return 2 * spaceless > letters.total()


def references(utterances: Sequence[Utterance], targets: str) -> list[str]:
    """Text that a model should write for each utterance, or "".

    Text is normalised. Phones are the labels of the phone tier, separated by spaces; in a corpus
    without that tier those of the transcript, which separates them itself.
    """
    if targets != "phones":
        return [normalise(u.text) for u in utterances]
    if any("phone" in u.tiers for u in utterances):
        labels = ((i.label for i in u.tiers.get("phone", ())) for u in utterances)
        return [" ".join("_".join(label.split()) for label in phones) for phones in labels]
    texts = [" ".join(unicodedata.normalize("NFC", u.text).split()) for u in utterances]
    if (n := len({symbol for text in texts for symbol in text.split()})) > MOST_PHONES:
        raise StrataError(
            f"finetune.targets=phones: the corpus has no phone tier, and its transcripts have {n} "
            "different symbols between blanks: words, it seems, not phones. Give it alignments, or "
            "use finetune.targets=characters"
        )
    return texts


def symbols(text: str, targets: str) -> list[str]:
    """The symbols of a reference: phones, or characters."""
    return text.split() if targets == "phones" else list(text)


@dataclass(frozen=True)
class Vocabulary:
    """What a model writes, by number: characters (| stands for a space, as in fairseq), phones or
    pieces of words.

    `blank` is CTC's. `splitter`: how words fall into pieces, as the library `tokenizers` writes it.
    """

    tokens: tuple[str, ...]
    blank: int
    targets: str = "characters"
    splitter: str | None = None

    @classmethod
    def of_text(cls, texts: Sequence[str], targets: str = "characters", pieces: int = 0) -> Self:
        """Every symbol of some references, after the special ones; or `pieces` pieces of words."""
        if targets == "pieces":
            splitter = _learn_pieces(texts, pieces)
            tokens = sorted(splitter.get_vocab(), key=splitter.get_vocab().__getitem__)
            return cls(tuple(tokens), 0, targets, splitter.to_str())
        used = {symbol for text in texts for symbol in symbols(text, targets)} - {" "}
        special = SPECIAL if targets == "characters" else SILENT
        return cls((*special, *sorted(used - {*special})), 0, targets)

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, places: int | None = None) -> Self:
        """What a checkpoint's tokenizer writes, whatever it calls the special ones.

        Tokenizers bring special ones for which a head of `places` outputs may have no output.
        """
        numbers = tokenizer.get_vocab()
        targets = "characters"
        names = {
            tokenizer.pad_token: BLANK,
            tokenizer.bos_token: START,
            tokenizer.eos_token: END,
            tokenizer.unk_token: UNKNOWN,
        }
        if isinstance(tokenizer, ParakeetTokenizer):
            targets = "pieces"
        elif isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer):
            targets = "phones"
        else:
            names |= {tokenizer.word_delimiter_token: SPACE, " ": SPACE}
        tokens = [""] * (max(numbers.values()) + 1)
        for token, number in numbers.items():
            tokens[number] = names.get(token, token)
        if {*tokens[places:]} <= {START, END, UNKNOWN, SPACE}:
            tokens = tokens[:places]
        splitter = tokenizer.backend_tokenizer.to_str() if targets == "pieces" else None
        return cls(tuple(tokens), tokenizer.pad_token_id, targets, splitter)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _splitter(self) -> Any:
        return Tokenizer.from_str(str(self.splitter))

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """Error rates that say how well it is written, the first one first.

        Of phones (per); of characters alone where words are not separated by spaces (cer); of words
        and characters.
        """
        if self.targets == "phones":
            return ("per",)
        return ("cer",) if self._without_spaces else ("wer", "cer")

    @cached_property
    def _without_spaces(self) -> bool:
        return without_spaces(token for token in self.tokens if token not in SPECIAL)

    def number(self, symbol: str) -> int | None:
        """Number of a symbol, a character in lower case if need be; None if it is not there."""
        if self.targets == "phones":
            return self._numbers.get(symbol) if symbol not in SILENT else None
        token = SPACE if symbol == " " else symbol
        return self._numbers.get(token, self._numbers.get(token.lower()))

    def encode(self, text: str) -> list[int]:
        """Numbers of a reference's symbols.

        What the vocabulary does not have is its unknown token or, without one, left out.
        """
        if self.targets == "pieces":
            return [int(n) for n in self._splitter.encode(text, add_special_tokens=False).ids]
        unknown = self._numbers.get(UNKNOWN)
        found = (self.number(symbol) for symbol in symbols(text, self.targets))
        return [n for n in (unknown if n is None else n for n in found) if n is not None]

    def lacking(self, texts: Iterable[str]) -> dict[str, int]:
        """How often each symbol occurs that the vocabulary does not have."""
        if self.targets == "pieces":
            known = {*"".join(self.tokens), " "}
            return dict(Counter(c for text in texts for c in text if c not in known))
        found = (symbol for text in texts for symbol in symbols(text, self.targets))
        return dict(Counter(symbol for symbol in found if self.number(symbol) is None))

    def decode(self, frames: Sequence[int]) -> str:
        """Greedy CTC: the best token of every frame, repeats merged, blanks removed."""
        kept = [n for i, n in enumerate(frames) if i == 0 or n != frames[i - 1]]
        return self.spell(n for n in kept if n != self.blank)

    def spell(self, numbers: Iterable[int]) -> str:
        """Text of tokens that a decoder put out, normalised as references are.

        Special tokens are silent.
        """
        tokens = [self.tokens[n] for n in numbers]
        if self.targets == "phones":
            return " ".join(token for token in tokens if token not in SILENT)
        return normalise("".join(self._text_of(token) for token in tokens))

    def _text_of(self, token: str) -> str:
        """What a token adds to a text; special ones nothing."""
        if self.targets == "pieces":
            return "" if token in SILENT else token.replace(WORD_START, " ")
        return " " if token == SPACE else token if len(token) == 1 else ""

    def words(self, numbers: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
        """What gets times of its own, each with the places of its tokens among `numbers`.

        Words; phones; or characters of a script without spaces.
        """
        text, places = "", list[int]()
        for place, token in enumerate(self.tokens[n] for n in numbers):
            alone = self.targets == "phones" or self._without_spaces
            piece = token if self.targets == "phones" else self._text_of(token)
            if token in SILENT or not piece:
                continue
            if places and (alone or piece.startswith(" ")):
                yield text, places
                text, places = "", []
            if piece.strip():
                text, places = text + piece.strip(), [*places, place]
        if places:
            yield text, places

    def tokenizer(self, folder: Path) -> Any:
        """The same as a Hugging Face tokenizer; `folder` keeps its vocabulary."""
        special = {
            "unk_token": UNKNOWN,
            "pad_token": BLANK,
            "bos_token": START,
            "eos_token": END,
        }
        if self.targets == "pieces":
            return ParakeetTokenizer(tokenizer_object=self._splitter, **special)
        file = folder / "vocab.json"
        numbers = {token: number for number, token in enumerate(self.tokens)}
        file.write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
        if self.targets == "phones":
            return Wav2Vec2PhonemeCTCTokenizer(str(file), do_phonemize=False, **special)
        return Wav2Vec2CTCTokenizer(str(file), word_delimiter_token=SPACE, **special)


def _learn_pieces(texts: Sequence[str], n: int) -> Any:
    """Pieces of words by byte-pair encoding (Sennrich et al. 2016), spaces as SentencePiece's."""
    splitter = Tokenizer(models.BPE(unk_token=UNKNOWN))
    splitter.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD_START)
    splitter.decoder = decoders.Metaspace(replacement=WORD_START)
    trainer = trainers.BpeTrainer(vocab_size=n, special_tokens=list(SILENT), show_progress=False)
    splitter.train_from_iterator(texts, trainer)
    least = len(SILENT) + len({WORD_START} | {c for text in texts for c in text} - {" "})
    if not least <= n == splitter.get_vocab_size():
        most = max(least, splitter.get_vocab_size())
        raise StrataError(
            f"finetune.pieces={n}: the training text makes {least}, which are its characters, to "
            f"{most} pieces"
        )
    return splitter


def read_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer that a fine-tuned checkpoint brings; an error where it brings none.

    A `vocab.json` alone will do: its special tokens are known by their usual names.
    """
    try:
        vocabulary = checkpoint.file((VOCABULARY, PIECES))
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
    known = (Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer, ParakeetTokenizer)
    if not isinstance(tokenizer, known):
        raise StrataError(
            f"finetune.characters=checkpoint: the {type(tokenizer).__name__} of {checkpoint.asked} "
            f"is none of {', '.join(kind.__name__ for kind in known)}, which write characters, "
            "phones or pieces of words by CTC. Use finetune.characters=text"
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
