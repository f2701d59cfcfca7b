"""A Whisper whose encoder takes fewer seconds, so that two cores can fine-tune it.

    python benchmarks/short_whisper.py FOLDER OUTPUT [--seconds 6]

Whisper pads everything to 30 s, and a sentence of 3 s costs as much as one of 30. Its encoder adds
a table of positions to its input: with the first rows of that table alone it takes as many seconds
as these rows stand for. The encoder's other weights are unchanged, and the decoder is left out.
What a layer says then differs from what Whisper's own says of the same sentence, because the blocks
attend to less silence after it; the script prints by how much on noise of half the length, as
correlation over frames and columns.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, logging

FRAME_RATE = 50  # of the encoder's output, frames a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    seconds: int = options.seconds
    logging.set_verbosity_error()

    model = WhisperForConditionalGeneration.from_pretrained(options.folder, dtype=torch.float32)
    extractor = WhisperFeatureExtractor.from_pretrained(options.folder)
    encoder = model.model.encoder
    noise = np.random.default_rng(0).normal(0, 0.1, seconds * extractor.sampling_rate // 2)
    kept = seconds * FRAME_RATE // 2
    before = last_layer(model, extractor, noise)[:kept]

    positions = encoder.embed_positions.weight.data[: seconds * FRAME_RATE]
    rows, columns = positions.shape
    encoder.embed_positions = torch.nn.Embedding(rows, columns, _weight=positions)
    encoder.embed_positions.requires_grad_(False)
    model.config.max_source_positions = encoder.config.max_source_positions = len(positions)
    encoder.max_source_positions = len(positions)
    short = WhisperFeatureExtractor(
        **{
            **{k: v for k, v in extractor.to_dict().items() if not k.startswith(("n_", "nb_"))},
            "chunk_length": seconds,
        }
    )
    after = last_layer(model, short, noise)[:kept]
    weights = {k: v for k, v in model.state_dict().items() if k.startswith("model.encoder.")}
    model.save_pretrained(options.output, state_dict=weights)
    short.save_pretrained(options.output)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (options.output / name).write_bytes((options.folder / name).read_bytes())
    alike = float(np.corrcoef(before.ravel(), after.ravel())[0, 1])
    print(json.dumps({"positions": len(positions), "correlation_of_last_layer": round(alike, 3)}))


def last_layer(
    model: WhisperForConditionalGeneration,
    extractor: WhisperFeatureExtractor,
    waveform: np.ndarray,
) -> np.ndarray:
    """The encoder's output, (frames, columns)."""
    features = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        return model.model.encoder(features.input_features).last_hidden_state[0].numpy()


if __name__ == "__main__":
    main()
