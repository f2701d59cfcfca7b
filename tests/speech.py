"""Small real corpora for tests: noise with a rhythm as audio, alignments in each format."""

from pathlib import Path

import numpy as np
import soundfile

WORDS = [(0.0, 0.1, ""), (0.1, 0.4, "She"), (0.4, 0.9, "had"), (0.9, 1.0, "")]
PHONES = [
    *[(0.0, 0.1, "sil"), (0.1, 0.2, "SH"), (0.2, 0.4, "IY1"), (0.4, 0.5, "HH"), (0.5, 0.7, "AE1")],
    *[(0.7, 0.9, "D"), (0.9, 1.0, "sp")],
]


def write_audio(path: Path, seed: int = 0, seconds: float = 1.0, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16000)).clip(-1, 1)
    soundfile.write(path, noise, 16000, **options)
    return path


def textgrid(tiers: dict[str, list[tuple[float, float, str]]]) -> str:
    end = max(e for rows in tiers.values() for _, e, _ in rows)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end)]
    lines += ["<exists>", str(len(tiers))]
    for name, rows in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", str(end), str(len(rows))]
        lines += [f'{start}\n{stop}\n"{label}"' for start, stop, label in rows]
    return "\n".join(lines) + "\n"


def write_textgrid(path: Path, **tiers: list[tuple[float, float, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textgrid(tiers or {"words": WORDS, "phones": PHONES}))
    return path
