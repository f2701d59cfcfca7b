"""Made phones for ABX, in memory and in the files that fastabx reads.

`python tests/analysis/metrics/abx_items.py` prints the golden of test_abx.py where fastabx is
installed, in an environment of its own.
"""

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from frames_in_memory import frames_of, utterance
from numpy.typing import NDArray

from analysis.metrics.frames import Frames
from common.encoder.frames import FrameGeometry
from common.records import Interval, Utterance

PHONES = "abc"
# Frames that are centred 10 ms, 30 ms, … after the start: as fastabx takes them to be.
GEOMETRY = FrameGeometry(receptive_field=320, hop=320)


def spoken(
    seed: int = 0, speakers: int = 3, utterances: int = 4, phones: int = 12, noise: float = 2.0
) -> Frames:
    """Phones of 2 to 5 frames around a mean for each phone and one for each speaker."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(len(PHONES), 6))
    voices = rng.normal(size=(speakers, 6))
    parts: list[NDArray[np.float32]] = []
    described: list[Utterance] = []
    for speaker, k in product(range(speakers), range(utterances)):
        phone = rng.integers(len(PHONES), size=phones)
        lengths = rng.integers(2, 6, size=phones)
        part = np.repeat(means[phone] + voices[speaker], lengths, axis=0)
        parts.append((part + noise * rng.normal(size=part.shape)).astype(np.float32))
        edges = 320 * np.concatenate([[0], np.cumsum(lengths)])
        tier = [
            Interval(int(a), int(b), PHONES[p])
            for (a, b), p in zip(pairwise(edges), phone, strict=True)
        ]
        described.append(
            utterance(f"s{speaker}u{k}", f"s{speaker}", int(edges[-1]), {"phone": tier})
        )
    return replace(frames_of(parts, described, "phone"), geometry=GEOMETRY)


def rows(frames: Frames, segment: str, context: str) -> list[tuple[str | float, ...]]:
    """A line of an item file for each phone; where contexts are kept, of those that have one."""
    found: list[tuple[str | float, ...]] = []
    for spoken_utterance in frames.utterances:
        edge = Interval(0, 0, "SIL")
        tier = (edge, *spoken_utterance.tiers["phone"], edge)
        for before, phone, after in zip(tier, tier[1:], tier[2:], strict=False):
            if context == "within" and edge in (before, after):
                continue
            stretch = (phone.start, phone.end)
            if segment == "triphone":
                stretch = (before.start, after.end)
            labels = (phone.label, before.label, after.label, spoken_utterance.speaker)
            found.append((spoken_utterance.id, *(moment / 16000 for moment in stretch), *labels))
    return found


def write(frames: Frames, segment: str, context: str, folder: Path) -> Path:
    """The item file, and a file of features for each utterance beside it."""
    import torch

    for k, spoken_utterance in enumerate(frames.utterances):
        torch.save(torch.from_numpy(frames.of(k).copy()), folder / f"{spoken_utterance.id}.pt")
    lines = ["#file onset offset #phone prev-phone next-phone speaker"]
    lines += [" ".join(str(value) for value in row) for row in rows(frames, segment, context)]
    path = folder / "made.item"
    path.write_text("\n".join(lines) + "\n")
    return path


def golden() -> None:
    """Error rates by fastabx, without any limit on the items."""
    import fastabx

    for segment, speaker, context in product(
        ("phone", "triphone"), ("within", "across"), ("within", "any")
    ):
        if (segment, context) != ("triphone", "any"):
            with TemporaryDirectory() as name:
                item = write(spoken(), segment, context, Path(name))
                error = fastabx.zerospeech_abx(
                    item,
                    name,
                    max_size_group=None,
                    max_x_across=None,
                    speaker=speaker,
                    context=context,
                )
            print(f'    ("{segment}", "{speaker}", "{context}"): {error!r},')


if __name__ == "__main__":
    golden()
