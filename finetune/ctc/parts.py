"""How many parts an update is computed in: as many as a GPU's memory needs, found by a trial."""

import gc
import json
import logging
from dataclasses import replace
from math import ceil

import torch

from common.encoder.encoder import autocast, pick_device
from common.records import SAMPLE_RATE, StrataError
from common.seeding import generator
from common.writing import write_text
from finetune.checkpoints import steps_done
from finetune.ctc.batches import Batch, Clips
from finetune.ctc.fitting import Plan
from finetune.ctc.module import Recogniser

log = logging.getLogger(__name__)

NOTED = "checkpoints/accumulate.json"
ROOM = 0.9  # of a GPU's free memory that the largest part may take: other shapes leave gaps in it


def choose_parts(plan: Plan, clips: Clips, numbers: tuple[int, ...]) -> Plan:
    """The plan with `finetune.accumulate` as `finetune.device_seconds=auto` finds it.

    The speech of an update stays the same. A training that resumes keeps the number it began with:
    every part has random numbers of its own. On other devices than GPUs nothing is tried.
    """
    recipe, device = plan.config.finetune, pick_device(plan.config.device)
    if recipe.device_seconds != "auto":
        return plan
    noted = plan.folder / NOTED
    if noted.is_file() and steps_done(plan.folder):
        parts = int(json.loads(noted.read_text(encoding="utf-8"))["accumulate"])
    elif device.type == "cuda":
        parts = parts_that_fit(plan, clips, numbers, device)
    else:
        parts = recipe.accumulate
    write_text(noted, json.dumps({"accumulate": parts}))
    log.info(
        "finetune.device_seconds=auto: an update of %.0f s has %d parts for each process%s",
        recipe.batch_seconds,
        parts,
        "" if device.type == "cuda" else f", as given: nothing is tried on a {device.type}",
    )
    config = replace(plan.config, finetune=replace(recipe, accumulate=parts))
    return replace(plan, config=config)


def parts_that_fit(plan: Plan, clips: Clips, numbers: tuple[int, ...], device: torch.device) -> int:
    """`finetune.accumulate`, doubled until the largest part of any update fits a device.

    No part is larger than one of the longest utterance alone, as often as an update holds it.
    """
    recipe = plan.config.finetune
    longest = max(numbers, key=lambda k: clips.recordings.lengths[k])
    n = clips.recordings.lengths[longest]
    count = max(1, int(recipe.batch_seconds * SAMPLE_RATE // n))
    module, _ = plan.build()
    parts = recipe.accumulate
    while True:
        rows = ceil(count / (parts * recipe.processes))
        batch = clips.batch([longest] * rows, [1.0] * rows)
        if fits(module, batch, device, plan.config.precision):
            return parts
        if rows == 1:
            raise StrataError(
                f"finetune.device_seconds=auto: the memory of the {device.type} does not hold an "
                f"update of one utterance of {n / SAMPLE_RATE:.1f} s. Use precision=bf16, "
                "finetune.gradient_checkpointing=true or a lower finetune.max_seconds"
            )
        parts *= 2


def fits(module: Recogniser, batch: Batch, device: torch.device, precision: str) -> bool:
    """Whether two updates by a batch, with the whole encoder training, leave room on a device.

    They change the module's weights.
    """
    gc.collect()
    measured = device.type == "cuda"
    if measured:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_allocated(device)
    try:
        module.to(device).train()
        optimizer = module.configure_optimizers()["optimizer"]
        on_device = batch.to(device)
        for update in range(2):
            with autocast(device, precision):
                loss = module.training_loss(on_device, generator(module.seed, "trial", update))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    except torch.OutOfMemoryError:
        return False
    finally:
        module.zero_grad()
        module.cpu()
    return not measured or torch.cuda.max_memory_allocated(device) <= ROOM * free
