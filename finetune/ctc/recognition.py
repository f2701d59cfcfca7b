"""A trained recogniser in use: from a waveform to text, with times where CTC gives them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoTokenizer

from common.config import Config
from common.encoder.architecture import Blueprint, read_blueprint
from common.encoder.encoder import autocast, pick_device
from common.encoder.feature_extractor import FeatureExtractor
from common.encoder.frames import FrameGeometry
from common.encoder.loading import load_checkpoint
from common.records import SAMPLE_RATE, StrataError, Waveform
from finetune.ctc.alignment import Probabilities, Span, align, best_path, cut_at_pauses
from finetune.ctc.decode import Decoder, beam_search
from finetune.ctc.recogniser import has_ctc_model, has_linear_head, head_places, load
from finetune.ctc.text import Vocabulary, normalise, read_tokenizer

log = logging.getLogger(__name__)

DECODED_AT_ONCE = 60  # seconds: longer speech is cut in pauses before it is decoded with an n-gram


@dataclass(frozen=True)
class Word:
    """A word and when it was spoken, in seconds; `confidence` is its mean probability.

    Or a phone, of a recogniser of phones; or a character, in scripts without spaces.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What was recognised; `words` is None where the decoder gives no times."""

    text: str
    words: tuple[Word, ...] | None


class Recogniser(Protocol):
    """Transcribes a waveform (n,) at 16 kHz. `targets`: its units, as in `finetune.targets`."""

    @property
    def targets(self) -> str:
        """What it recognises: characters, phones or pieces of words."""
        ...

    def __call__(self, waveform: Waveform) -> Transcript:
        """The transcript, written as the model writes."""
        ...


def load_recogniser(config: Config) -> Recogniser:
    """The recogniser of a checkpoint; StrataError where it does not recognise speech."""
    blueprint = read_blueprint(config.model)
    asked = blueprint.checkpoint.asked
    if config.model.random_init:
        raise StrataError(f"{asked}: model.random_init=true has no recogniser's weights")
    decoder = config.recognition.decoder
    ctc = has_ctc_model(blueprint.config) or has_linear_head(blueprint)
    writes = bool(blueprint.config.is_encoder_decoder)
    if decoder == "own" and not writes:
        raise StrataError(f"recognition.decoder=own: {asked} has no decoder; use ctc")
    if decoder == "own" or (decoder == "auto" and writes and not ctc):
        return _EncoderDecoder.load(config, blueprint)
    return CtcRecogniser.load(config, blueprint)


@dataclass(frozen=True)
class CtcRecogniser:
    """A model with a linear map to characters, and what turns its probabilities into words.

    `window`, `overlap` in frames: longer speech is recognised in overlapping windows, and the
    ends of a window are left to its neighbours.
    """

    model: Any
    vocabulary: Vocabulary
    feature_extractor: FeatureExtractor
    geometry: FrameGeometry
    device: torch.device
    precision: str
    window: int
    overlap: int
    decoder: Decoder | None

    @classmethod
    def load(cls, config: Config, blueprint: Blueprint) -> "CtcRecogniser":
        """Weights and characters of a checkpoint."""
        recognition = config.recognition
        tokenizer = read_tokenizer(blueprint.checkpoint)
        vocabulary = Vocabulary.of_tokenizer(tokenizer, head_places(blueprint))
        search = beam_search(recognition.lm, vocabulary)
        model, _ = load(config.finetune, vocabulary, config.model, blueprint, fresh_head=False)
        device = pick_device(config.device)
        geometry = blueprint.description.layers[-1].geometry
        per_second = SAMPLE_RATE / geometry.hop
        seconds = min(
            recognition.window_seconds,
            (blueprint.feature_extractor.max_samples or np.inf) / SAMPLE_RATE,
        )
        return cls(
            model.to(device).eval(),
            vocabulary,
            blueprint.feature_extractor,
            geometry,
            device,
            config.precision,
            int(seconds * per_second),
            int(recognition.overlap_seconds * per_second),
            None
            if search is None
            else search.decoder(recognition.lm.weights[0], recognition.lm.word_scores[0]),
        )

    @property
    def targets(self) -> str:
        """The targets of its vocabulary."""
        return self.vocabulary.targets

    def __call__(self, waveform: Waveform) -> Transcript:
        """Words by the most likely characters or, with an n-gram, by beam search; their times."""
        log_p = self.log_probabilities(waveform)
        blank = self.vocabulary.blank
        if self.decoder is None:
            words = list(self._words(best_path(log_p, blank), 0)) if len(log_p) else []
        else:
            words = []
            longest = DECODED_AT_ONCE * SAMPLE_RATE // self.geometry.hop
            start = 0
            for end in cut_at_pauses(log_p, blank, longest) if len(log_p) else []:
                piece = log_p[start:end]
                words += self.timed(piece, self.decoder(piece), start)
                start = end
        apart = "" if self.vocabulary.figures == ("cer",) else " "
        return Transcript(apart.join(word.text for word in words), tuple(words))

    def timed(self, log_p: Probabilities, text: str, offset: int = 0) -> list[Word]:
        """Words of a known text, at their most likely times by (T, V) log probabilities.

        `offset`: the number of their first frame.
        """
        tokens, blank = self.vocabulary.encode(text), self.vocabulary.blank
        return list(self._words(align(log_p, tokens, blank), offset)) if tokens else []

    def _words(self, spans: list[Span], offset: int) -> Iterator[Word]:
        """Words of the spans' tokens; a hop is a frame's length in time."""
        hop = self.geometry.whole_hop
        for text, places in self.vocabulary.words([span.token for span in spans]):
            members = [spans[place] for place in places]
            yield Word(
                text,
                (offset + members[0].first) * hop / SAMPLE_RATE,
                (offset + members[-1].last) * hop / SAMPLE_RATE,
                float(np.mean([span.confidence for span in members])),
            )

    def log_probabilities(self, waveform: Waveform) -> Probabilities:
        """Log probabilities (T, V), float32, for all T frames of the waveform (n,)."""
        hop = self.geometry.whole_hop
        total = max(0, self.geometry.n_frames(len(waveform)))
        out = np.zeros((total, len(self.vocabulary.tokens)), np.float32)
        if total == 0:
            return out
        window, step = self.window * hop, self.window - 2 * self.overlap
        for start in range(0, total, step):
            found = self._window_probabilities(waveform[start * hop : start * hop + window])
            trimmed = self.overlap if start else 0
            out[start + trimmed : start + len(found)] = found[trimmed : total - start]
            if start * hop + window >= len(waveform):
                break
        return out

    @torch.inference_mode()
    def _window_probabilities(self, waveform: Waveform) -> Probabilities:
        inputs = self.feature_extractor([waveform])
        values = next(x for key, x in inputs.items() if key != "attention_mask")
        with autocast(self.device, self.precision):
            logits = self.model(values.to(self.device)).logits
        n_frames = self.geometry.n_frames(len(waveform))
        scores = torch.log_softmax(logits[0, :n_frames].float(), dim=-1)
        return np.asarray(scores.cpu().numpy(), np.float32)


@dataclass(frozen=True)
class _EncoderDecoder:
    """An encoder-decoder that writes text with its own decoder, greedily: Whisper and its like."""

    targets: ClassVar[str] = "characters"
    model: Any
    tokenizer: Any
    feature_extractor: FeatureExtractor
    device: torch.device
    precision: str
    window: int
    options: dict[str, Any]

    @classmethod
    def load(cls, config: Config, blueprint: Blueprint) -> "_EncoderDecoder":
        """Weights and tokenizer of a checkpoint."""
        asked = blueprint.checkpoint.asked
        if config.recognition.lm.path is not None:
            raise StrataError(
                "recognition.lm.path: an n-gram goes with CTC; the model's own decoder has learnt "
                "its words. Leave it out, or use recognition.decoder=ctc"
            )
        model = load_checkpoint(
            AutoModelForSpeechSeq2Seq, blueprint.config, blueprint, fresh_head=False
        )
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                blueprint.checkpoint.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            # transformers raises OSError, ValueError, KeyError, TypeError … for what a file holds.
            raise StrataError(f"{asked}: it brings no tokenizer ({error})") from error
        device = pick_device(config.device)
        seconds = min(
            config.recognition.window_seconds,
            (blueprint.feature_extractor.max_samples or np.inf) / SAMPLE_RATE,
        )
        language = config.recognition.language
        options = {"language": language, "task": "transcribe"} if language is not None else {}
        return cls(
            model.to(device).eval(),
            tokenizer,
            blueprint.feature_extractor,
            device,
            config.precision,
            int(seconds * SAMPLE_RATE),
            options,
        )

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> Transcript:
        """Text of window after window, one beam."""
        texts, start = [], 0
        for end in cut_in_quiet(waveform, self.window):
            inputs = self.feature_extractor([waveform[start:end]])
            start = end
            values = next(x for key, x in inputs.items() if key != "attention_mask")
            with autocast(self.device, self.precision):
                written = self.model.generate(
                    values.to(self.device), num_beams=1, do_sample=False, **self.options
                )
            texts.append(self.tokenizer.decode(written[0], skip_special_tokens=True).strip())
        return Transcript(" ".join(text for text in texts if text), None)


def cut_in_quiet(waveform: Waveform, longest: int) -> list[int]:
    """Samples at which to cut (n,) so that no piece has more than `longest`: ends of the pieces.

    A cut lies in the middle of the quietest fifth of a second of a piece's last third.
    """
    ends, start, quiet = [], 0, min(SAMPLE_RATE // 5, longest // 3)
    while len(waveform) - start > longest:
        first = start + longest - longest // 3
        energy = np.cumsum(np.square(waveform[first : start + longest], dtype=np.float64))
        start = first + int((energy[quiet:] - energy[:-quiet]).argmin()) + quiet // 2
        ends.append(start)
    return [*ends, len(waveform)]


def scored_text(transcript: Transcript, targets: str) -> str:
    """A transcript as references are normalised."""
    return transcript.text if targets == "phones" else normalise(transcript.text)
