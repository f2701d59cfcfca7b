"""Layer-wise analysis: sample units, stream layers, collect statistics, score. Imports `common`."""
