"""Layer-wise analysis: draw units, run the model once, collect statistics, score each layer.

From Python: `from analysis import analyse`. The package imports `common` and nothing of `finetune`.
"""

from analysis.api import analyse, summarise

__all__ = ["analyse", "summarise"]
