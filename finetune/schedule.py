"""Learning rates and temperatures over the steps of a training."""


def warmup_linear(step: int, warmup: int, steps: int) -> float:
    """Factor of the peak learning rate: up in a line over `warmup` steps, then down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def geometric(step: int, steps: int, first: float, last: float) -> float:
    """From `first` at step 0 to `last` at step `steps`, by equal ratios; `last` ever after."""
    return first * (last / first) ** min(1.0, step / steps)
