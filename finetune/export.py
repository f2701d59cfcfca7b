"""Models as folders in the Hub's format: what `model=hf model.checkpoint=FOLDER` reads."""

import shutil
from pathlib import Path
from typing import Any

import torch

from common.encoder.checkpoint import PREPROCESSOR, Checkpoint
from common.encoder.loading import quietly


def export(
    model: Any, checkpoint: Checkpoint, folder: Path, half: bool = False, tokenizer: Any = None
) -> Path:
    """Write config, weights (safetensors, in half precision if asked) and feature extractor.

    With the tokenizer of a recogniser `pipeline("automatic-speech-recognition")` reads it too. The
    folder appears whole or not at all.
    """
    partial = folder.with_name(f".part.{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    dtype = torch.float16 if half else torch.float32
    weights = {
        name: tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with quietly():
        model.save_pretrained(partial, state_dict=weights)
    extractor = checkpoint.file(PREPROCESSOR)
    shutil.copyfile(extractor, partial / extractor.name)
    if tokenizer is not None:
        tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return folder
