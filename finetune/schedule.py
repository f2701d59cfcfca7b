"""Learning rates and temperatures over the steps of a training."""

from collections.abc import Sequence

INITIAL_SCALE = 0.01  # of tri_stage


def warmup_linear(step: int, warmup: int, steps: int) -> float:
    """Factor of the peak learning rate: up in a line over `warmup` steps, then down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def geometric(step: int, steps: int, first: float, last: float) -> float:
    """From `first` at step 0 to `last` at step `steps`, by equal ratios; `last` from then on."""
    return first * (last / first) ** min(1.0, step / steps)


def tri_stage(step: int, steps: int, stages: Sequence[float], final: float) -> float:
    """Factor of the peak learning rate: a rise from 1/100, a plateau, a fall to `final` by ratios.

    `stages` are the three parts of all `steps`; as fairseq's tri_stage, with its initial scale.
    """
    rise, hold, fall = (part * steps for part in stages)
    if step < rise:
        return INITIAL_SCALE + (1 - INITIAL_SCALE) * step / rise
    if step < rise + hold:
        return 1.0
    if step < rise + hold + fall:
        return float(final ** ((step - rise - hold) / fall))
    return final
