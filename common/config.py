"""The configuration as types: what each key means, its default and its range."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A Hugging Face speech encoder. `conf/model/NAME.yaml` holds one each.

    `checkpoint` is a Hub id ("facebook/wav2vec2-base") or a folder in the Hub's format.
    `random_init` builds the architecture from its config with weights drawn from `init_seed`: the
    untrained control; only the checkpoint's config (and feature extractor config) is then read.
    `final_norm` passes the last block's output through the model's final layer norm, for those
    that have one after the blocks (design: off, as fairseq and the papers).
    `batch_size` utterances per forward pass: on a CPU larger batches gain nothing. Utterances of
    a batch have equal lengths where padding would change the frames.
    """

    name: str
    checkpoint: str
    revision: str = "main"
    random_init: bool = False
    init_seed: int = 0
    final_norm: bool = False
    batch_size: int = 1


Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]
