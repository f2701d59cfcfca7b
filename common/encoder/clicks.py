"""Which samples each frame sees, and how many frames there are, measured with clicks."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from common.encoder.frames import FrameGeometry
from common.records import StrataError, Waveform

Frames = Callable[[Waveform], NDArray[np.floating]]

# Of the largest change: rounding stays below 1e-5 of it, the edge of a window above.
VISIBLE = 1e-3


def measured(frames_of: Frames, n: int, threshold: float = VISIBLE) -> FrameGeometry:
    """Geometry, in its own samples, of what turns a waveform (n,) into frames (T, D).

    A click is moved along silence until the last frame that it changes is the next one: there that
    one begins; and until the first frame that it changes is the next one: there the former ended.
    How often frames come follows from two such beginnings, how many there are from the length at
    which there is one more. What a window multiplies by almost nothing at its edges counts as not
    seen.

    Waveforms differ by where they click alone: so positions that a model adds cancel. What a norm
    over the whole waveform makes of that is the same for all frames without a click: the median,
    which is taken off. `threshold`: the smallest change that counts, over the largest.

    `centred` serves models that pad every length to the same number of frames.
    """
    reference_click, last_click = n - n // 8, n - n // 16
    reference = frames_of(click(n, reference_click))

    def changed(sample: int) -> NDArray[np.intp]:
        change = frames_of(click(n, sample)) - reference
        size = np.abs(change - np.median(change, axis=0)).max(axis=1)
        return np.flatnonzero(size > threshold * size.max())

    rest = changed(last_click)[0]  # frames from there on see the click of the reference

    @cache
    def seen(sample: int) -> tuple[int, int]:
        frames = [int(k) for k in changed(sample) if k < rest]
        if not frames:
            raise StrataError(f"no frame sees a click at sample {sample} of {n}")
        return frames[0], frames[-1]

    start, stop, apart = n // 4, n // 2, 2
    first, last = seen(start)
    begins = _least(lambda s: seen(s)[1] > last, start, stop)
    again = _least(lambda s: seen(s)[1] > last + apart, begins, n - n // 4)
    end = _least(lambda s: seen(s)[0] > first, start, stop)
    hop, uneven = divmod(again - begins, apart)
    offset = begins - (last + 1) * hop
    receptive_field = end - (offset + first * hop)
    geometry = FrameGeometry(receptive_field, hop, offset)

    def count(length: int) -> int:
        return len(frames_of(click(length, start)))

    most, shorter = len(reference), n - n // 3
    if count(shorter) == most:
        return centred(geometry)
    longer = _least(lambda length: count(length) > most, n, n + 2 * hop)
    geometry = replace(geometry, overhang=most * hop + offset + receptive_field - longer)
    if uneven or count(shorter) != geometry.n_frames(shorter):
        raise StrataError(
            f"its frames do not come at equal distances: they begin at sample {begins} and, "
            f"{apart} frames later, at {again}; {n} samples have {most}, {shorter} "
            f"{count(shorter)}"
        )
    return geometry


def centred(geometry: FrameGeometry) -> FrameGeometry:
    """Geometry of frames that are padded to a fixed number: which of them count as the audio's.

    Those whose centre lies in it; where the first frame has no padding before it, those that lie in
    it as a whole, as the first one does.
    """
    overhang = geometry.offset + geometry.receptive_field - 1 - geometry.centre(0)
    return replace(geometry, overhang=overhang if geometry.offset < 0 else min(overhang, 0))


def click(n: int, sample: int) -> Waveform:
    """(n,) silence but for one sample."""
    waveform = np.zeros(n, np.float32)
    waveform[sample] = 1
    return waveform


def _least(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Smallest whole number above `low` of which something holds, as it does of all beyond."""
    step = 1
    while low + step < high and not holds(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, high)
    if not holds(high):
        raise StrataError(f"no frame begins or ends before sample {high}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
