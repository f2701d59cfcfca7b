"""How a trained recogniser is used: `experiment=evaluate` and `experiment=transcribe`."""

from dataclasses import dataclass, field

from common.config.analysis import require
from common.config.finetune import LanguageModelConfig
from common.records import StrataError


def _one_weight() -> LanguageModelConfig:
    return LanguageModelConfig(weights=[1.0], word_scores=[0.0])


@dataclass(kw_only=True)
class RecognitionConfig:
    """How speech becomes text.

    `decoder`: "ctc", the linear map to characters; "own", an encoder-decoder's own decoder
    (Whisper's); "auto", whichever the model has. `lm`: beam search with an n-gram, of CTC alone,
    with one weight and one word score: those that a training chose are in its metadata.json.
    Recordings longer than `window_seconds` are heard in windows of that length, of which
    `overlap_seconds` at each end are given up to their neighbours (CTC; another decoder's windows
    are cut where it is quiet). `language` of a decoder that knows several.
    """

    decoder: str = "auto"
    lm: LanguageModelConfig = field(default_factory=_one_weight)
    window_seconds: float = 30.0
    overlap_seconds: float = 3.0
    language: str | None = None

    def __post_init__(self) -> None:
        require("recognition.decoder", self.decoder, ("auto", "ctc", "own"))
        if not 1 <= self.window_seconds <= 600:
            raise StrataError(f"recognition.window_seconds={self.window_seconds}: use 1 to 600")
        if not 0.5 <= self.overlap_seconds <= self.window_seconds / 4:
            raise StrataError(
                f"recognition.overlap_seconds={self.overlap_seconds}: use 0.5 up to a quarter of "
                f"recognition.window_seconds={self.window_seconds}"
            )
        if len(self.lm.weights) != 1 or len(self.lm.word_scores) != 1:
            raise StrataError(
                f"recognition.lm.weights={self.lm.weights} and recognition.lm.word_scores="
                f"{self.lm.word_scores}: one of each, since there is no validation speech to "
                "choose by; a training's metadata.json has those that it chose (test.n_gram)"
            )
