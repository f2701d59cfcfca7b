"""The configuration of a fine-tuning as a type: what each key means, and its range."""

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from common.config.analysis import require, require_at_least
from common.records import StrataError

DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
SECONDS = {"s": 1, "m": 60, "h": 3600}
DROPOUTS = ("activation", "attention", "hidden", "feat_proj", "final")
BLOCK_NAME = re.compile(r"T[1-9]\d*")


def seconds_of(key: str, subset: str) -> float:
    """Length of a subset: "10m" is 600 s."""
    match = DURATION.fullmatch(subset)
    if match is None or not float(match[1]) > 0:
        raise StrataError(f"{key}={subset}: write an amount of speech, as 30s, 10m or 1h")
    return float(match[1]) * SECONDS[match[2]]


@dataclass(kw_only=True)
class PartConfig:
    """Speech to train, validate or test on.

    `dataset` null is the run's own `dataset`; a recipe that is made for a corpus names it here,
    `dataset@finetune.train.dataset=NAME` another one. `partition` of it, if not the one it says
    itself. `speakers` takes theirs alone; `speaker_share` draws that part of the speakers whom no
    other part names. `subset`: how much of it is taken ("10m"), balanced over speakers, the same
    whatever the run's seed; a smaller one is part of every larger one.
    """

    dataset: Any = None
    partition: str | None = None
    speakers: list[str] | None = None
    speaker_share: float | None = None
    subset: str | None = None


@dataclass(kw_only=True)
class LanguageModelConfig:
    """Beam search with a word n-gram (the extra `lm`), tuned on validation; greedy without `path`.

    `path`: KenLM's ARPA text or binary. `lexicon`: a file of words, one a line, that may be
    recognised; an ARPA file holds its own. `weights` and `word_scores`: what is tried for the
    n-gram's weight and the reward of a word.
    """

    path: str | None = None
    lexicon: str | None = None
    beam: int = 100
    weights: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    word_scores: list[float] = field(default_factory=lambda: [-1.0, 0.0, 1.0])

    def __post_init__(self) -> None:
        require_at_least("finetune.lm.beam", self.beam, 1)
        if not (self.weights and self.word_scores):
            raise StrataError("finetune.lm.weights and finetune.lm.word_scores: give one or more")
        for key, value in (("path", self.path), ("lexicon", self.lexicon)):
            if value is not None and not Path(value).expanduser().is_file():
                raise StrataError(f"finetune.lm.{key}={value}: there is no such file")
        if self.path is not None and self.lexicon is None and not self.path.endswith(".arpa"):
            raise StrataError(
                f"finetune.lm.path={self.path}: a binary n-gram does not list its words; give "
                "them, one a line, as finetune.lm.lexicon=FILE (an .arpa file needs none)"
            )


@dataclass(kw_only=True)
class AdaptersConfig:
    """A few new weights that train instead of the encoder's, which are frozen.

    `method`: "none"; "lora", maps of `rank` beside linear ones, of which `targets` names the ends
    (Hu et al. 2022, arXiv 2106.09685; by PEFT, the extra `adapters`), scaled by `alpha` over
    `rank`, with `dropout`; "mms", a bottleneck of `rank` after each block (Pratap et al. 2023,
    arXiv 2305.13516; transformers' own, of wav2vec 2.0, HuBERT and UniSpeech). Re-initialised
    blocks are trained as a whole in any case.
    """

    method: str = "none"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])

    def __post_init__(self) -> None:
        require("finetune.adapters.method", self.method, ("none", "lora", "mms"))
        require_at_least("finetune.adapters.rank", self.rank, 1)
        if not self.alpha > 0:
            raise StrataError(f"finetune.adapters.alpha={self.alpha}: use more than 0")
        if not 0 <= self.dropout < 1:
            raise StrataError(f"finetune.adapters.dropout={self.dropout}: use 0 or more, below 1")
        if self.method == "lora" and find_spec("peft") is None:
            raise StrataError(
                "finetune.adapters.method=lora needs the extra adapters: "
                "pip install 'strata[adapters]'"
            )


@dataclass(kw_only=True)
class AugmentConfig:
    """Changes of training speech, drawn in every epoch; validation and test are unchanged.

    `speeds`: one of them for each utterance, pitch and tempo together ([0.9, 1.0, 1.1]: Ko et al.
    2015, "Audio augmentation for speech recognition"). `noise`: a folder of recordings, one of
    which is added to `noise_share` of the utterances, `snr` ([lowest, highest], in dB) below the
    speech.
    """

    speeds: list[float] = field(default_factory=lambda: [1.0])
    noise: str | None = None
    noise_share: float = 0.5
    snr: list[float] = field(default_factory=lambda: [5.0, 20.0])

    def __post_init__(self) -> None:
        if not self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise StrataError(f"finetune.augment.speeds={self.speeds}: use one or more, 0.5 to 2")
        if not 0 < self.noise_share <= 1:
            raise StrataError(
                f"finetune.augment.noise_share={self.noise_share}: use above 0, up to 1"
            )
        if len(self.snr) != 2 or not -20 <= self.snr[0] <= self.snr[1] <= 60:
            raise StrataError(
                f"finetune.augment.snr={self.snr}: [lowest, highest] in dB, of -20 to 60"
            )
        if self.noise is not None and not Path(self.noise).expanduser().is_dir():
            raise StrataError(f"finetune.augment.noise={self.noise}: there is no such folder")

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self.noise is not None or set(self.speeds) != {1.0}


@dataclass(kw_only=True)
class FinetuneConfig:
    """How to fine-tune for recognition with CTC. `conf/finetune/NAME.yaml` holds a recipe each.

    `train`, `valid`, `test`: the speech of each; no speaker of `test` is trained or validated on,
    none of `valid` trained on. `subset` is short for `train.subset`; `subset_seed` draws subsets
    and speakers.

    `reinit_top` blocks, the last ones, start from random weights, or `reinit_layers` ([T11,T12]);
    `reinit_include_final_norm` with the layer norm after them. The encoder is frozen for
    `freeze_updates`, but re-initialised blocks are not if `freeze_exclude_reinit`, nor are the last
    `unfreeze_top` blocks. The blocks of `freeze_layers` ([T1,T2]) never train, nor do the
    convolutions unless `freeze_convolutions` is false: their features of an utterance are then
    kept, in up to a quarter of the free memory (`keep_features`, "auto" or "never"). The last
    `drop_top` blocks are removed before all that: "last" then means of those that are left.
    `adapters` train instead of the encoder's weights. `weighted_sum`: the map to characters reads
    not the last layer but the sum of all transformer layers with weights that are learnt with it
    (Yang et al. 2021, arXiv 2105.01051).

    `targets`, what is recognised: "characters" of the text; "phones", the symbols of the phone
    tier or, in a corpus without one, of transcripts that part them by blanks; "pieces" of words,
    `pieces` many of them, by byte-pair encoding as in SentencePiece. `characters`: those of the
    training `text`, or the `checkpoint`'s own (its phones or pieces, too).

    `updates` of Adam, by default with betas (0.9, 0.98); the rate rises over the first of the
    `stages`, holds over the second, and falls to `final_scale` of the peak over the third; the
    map to characters has `head_factor` times the encoder's rate, since it starts from nothing. The
    last block has the whole rate, each one below it, and what lies below the blocks, `layer_decay`
    of the rate of the next one. An
    update has `batch_seconds` of audio, padding to the longest counted, in `accumulate` parts
    for each of `processes`, a GPU each or all on the CPU; or in the fewest that keep a part below
    `device_seconds`, or (auto) that a GPU's memory has room for, by a trial. `max_seconds`: longer
    utterances are not trained on. `mask_time_prob` and `mask_feature_prob`: the masks' spans of
    frames and of channels, times their lengths, over all there are; they overlap, so that less is
    masked.
    `masks`: drawn for each utterance on its own ("hf"), or then thinned so that all utterances of
    a batch have as many masked frames as the one with fewest ("fairseq"). Validation every
    `valid_every` updates, once the encoder trains; training ends after `patience` of them without a
    better `monitor`, the word or character error rate ("wer" or "cer"), and the best one is kept;
    phones have one rate alone ("per"), and so have scripts without spaces ("cer").
    """

    train: PartConfig = field(default_factory=PartConfig)
    valid: PartConfig = field(default_factory=PartConfig)
    test: PartConfig = field(default_factory=PartConfig)
    subset: str | None = None
    subset_seed: int = 0
    targets: str = "characters"
    pieces: int = 500
    characters: str = "text"
    reinit_top: int = 0
    reinit_layers: list[str] | None = None
    reinit_include_final_norm: bool = False
    drop_top: int = 0
    unfreeze_top: int = 0
    freeze_layers: list[str] | None = None
    freeze_convolutions: bool = True
    adapters: AdaptersConfig = field(default_factory=AdaptersConfig)
    weighted_sum: bool = False
    freeze_updates: int = MISSING
    freeze_exclude_reinit: bool = True
    updates: int = MISSING
    learning_rate: float = MISSING
    head_factor: float = 1.0
    layer_decay: float = 1.0
    stages: list[float] = field(default_factory=lambda: [0.1, 0.4, 0.5])
    final_scale: float = 0.05
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    eps: float = 1e-8
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    batch_seconds: float = MISSING
    device_seconds: Any = None
    accumulate: int = 1
    processes: int = 1
    max_seconds: float = 30.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    masks: str = "hf"
    mask_time_prob: float = MISSING
    mask_time_length: int = 10
    mask_feature_prob: float = MISSING
    mask_feature_length: int = 64
    layerdrop: float = MISSING
    activation_dropout: float = 0.1
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    feat_proj_dropout: float = 0.0
    final_dropout: float = 0.0
    gradient_checkpointing: bool = False
    compile: bool = False
    keep_features: str = "auto"
    valid_every: int = MISSING
    monitor: str = "wer"
    patience: int | None = None
    checkpoint_minutes: float = 10.0
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        counts = ("updates", "valid_every", "accumulate", "processes", "patience")
        for key in (*counts, "mask_time_length", "mask_feature_length"):
            require_at_least(f"finetune.{key}", getattr(self, key), 1)
        blocks = ("reinit_top", "drop_top", "unfreeze_top")
        for key in (*blocks, "freeze_updates", "weight_decay", "gradient_clip"):
            require_at_least(f"finetune.{key}", getattr(self, key), 0)
        require("finetune.monitor", self.monitor, ("wer", "cer", "per"))
        require("finetune.masks", self.masks, ("hf", "fairseq"))
        require("finetune.keep_features", self.keep_features, ("auto", "never"))
        require("finetune.targets", self.targets, ("characters", "phones", "pieces"))
        require_at_least("finetune.pieces", self.pieces, 10)
        if self.monitor == "per" and self.targets != "phones":
            raise StrataError(
                f"finetune.monitor=per: phones are the targets of finetune.targets=phones, not of "
                f"{self.targets}; use wer or cer"
            )
        if self.lm.path is not None and self.targets != "characters":
            raise StrataError(
                f"finetune.lm.path={self.lm.path}: an n-gram of words goes with "
                f"finetune.targets=characters, not {self.targets}"
            )
        require("finetune.characters", self.characters, ("text", "checkpoint"))
        self._check_shares()
        self._check_optimisation()
        self._check_parts()
        self._check_encoder()
        if self.reinit_layers is not None and self.reinit_top:
            raise StrataError(
                f"finetune.reinit_top={self.reinit_top} and finetune.reinit_layers="
                f"{self.reinit_layers}: use one of them"
            )
        for key in ("reinit_layers", "freeze_layers"):
            for name in getattr(self, key) or ():
                if not BLOCK_NAME.fullmatch(name):
                    raise StrataError(
                        f"finetune.{key} has {name}: name blocks by what they put out, T1, …"
                    )

    def _check_shares(self) -> None:
        dropouts = [f"{part}_dropout" for part in DROPOUTS]
        shares = ("mask_time_prob", "mask_feature_prob", "layerdrop", "final_scale")
        for key in (*shares, *dropouts):
            if not 0 <= getattr(self, key) < 1:
                raise StrataError(f"finetune.{key}={getattr(self, key)}: use 0 or more, below 1")

    def _check_optimisation(self) -> None:
        if not 0 < self.learning_rate <= 1:
            raise StrataError(
                f"finetune.learning_rate={self.learning_rate}: use more than 0, up to 1"
            )
        if not 0 < self.head_factor <= 1000:
            raise StrataError(f"finetune.head_factor={self.head_factor}: use above 0, up to 1000")
        if not 0 < self.layer_decay <= 1:
            raise StrataError(f"finetune.layer_decay={self.layer_decay}: use above 0, up to 1")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise StrataError(f"finetune.betas={self.betas}: Adam's two, 0 or more, below 1")
        for key in ("eps", "checkpoint_minutes"):
            if not getattr(self, key) > 0:
                raise StrataError(f"finetune.{key}={getattr(self, key)}: use more than 0")
        if len(self.stages) != 3 or min(self.stages) < 0 or abs(sum(self.stages) - 1) > 1e-6:
            raise StrataError(
                f"finetune.stages={self.stages}: three parts of the training that make 1, "
                "[rising, holding, falling]"
            )
        if not 0 < self.max_seconds <= self.batch_seconds:
            raise StrataError(
                f"finetune.max_seconds={self.max_seconds}: use more than 0, up to "
                f"finetune.batch_seconds={self.batch_seconds}, which one utterance must fit"
            )

        self._check_device_seconds()

    def _check_device_seconds(self) -> None:
        given = self.device_seconds
        if given is None or given == "auto":
            return
        if isinstance(given, str | bool) or not given >= self.max_seconds:
            raise StrataError(
                f"finetune.device_seconds={given}: use auto, or the longest that an utterance "
                f"may be (finetune.max_seconds={self.max_seconds}) or more"
            )
        parts = ceil(self.batch_seconds / (self.processes * given))
        if self.accumulate not in (1, parts):
            raise StrataError(
                f"finetune.device_seconds={given} cuts finetune.batch_seconds={self.batch_seconds} "
                f"into {parts} parts, finetune.accumulate={self.accumulate} into as many as it "
                "says: give one of them"
            )
        self.accumulate = parts

    @property
    def first_validation(self) -> int:
        """The update of the first validation: once the encoder is unfrozen, if it ever is."""
        every = min(self.valid_every, self.updates)
        first = (self.freeze_updates // every + 1) * every
        return first if first <= self.updates else every

    def _check_encoder(self) -> None:
        if self.weighted_sum and self.layerdrop:
            raise StrataError(
                f"finetune.weighted_sum=true and finetune.layerdrop={self.layerdrop}: a layer that "
                "is dropped has no place in the sum; use finetune.layerdrop=0"
            )
        if self.adapters.method != "none" and (self.unfreeze_top or not self.freeze_convolutions):
            raise StrataError(
                f"finetune.adapters.method={self.adapters.method}: the encoder's own weights are "
                "frozen, and finetune.unfreeze_top and finetune.freeze_convolutions=false ask "
                "otherwise: leave those out"
            )

    def _check_parts(self) -> None:
        if self.subset is not None and self.train.subset not in (None, self.subset):
            raise StrataError(
                f"finetune.subset={self.subset} and finetune.train.subset={self.train.subset}: "
                "they mean the same, give one of them"
            )
        self.train.subset = self.subset or self.train.subset
        for name in ("train", "valid", "test"):
            part: PartConfig = getattr(self, name)
            if part.subset is not None:
                seconds_of(f"finetune.{name}.subset", part.subset)
            if part.speaker_share is not None and not 0 < part.speaker_share < 1:
                raise StrataError(
                    f"finetune.{name}.speaker_share={part.speaker_share}: use a part of the "
                    "speakers, above 0, below 1"
                )
            if part.speakers is not None and part.speaker_share is not None:
                part.speaker_share = None  # named ones: none are to be drawn


@dataclass(kw_only=True)
class RecognitionConfig:
    """How speech becomes text.

    `decoder`: "ctc", the linear map to characters; "own", an encoder-decoder's own decoder
    (Whisper's); "auto", whichever the model has. `lm`: beam search with an n-gram, of CTC alone,
    with one weight and one word score: those that a training chose are in its metadata.json.
    Recordings longer than `window_seconds` are recognised in windows of that length, of which
    `overlap_seconds` at each end are given up to their neighbours (CTC; another decoder's windows
    are cut where it is quiet). `language` of a decoder that knows several.
    """

    decoder: str = "auto"
    lm: LanguageModelConfig = field(
        default_factory=lambda: LanguageModelConfig(weights=[1.0], word_scores=[0.0])
    )
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
