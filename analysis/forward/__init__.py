"""The one forward pass: utterances in, statistics of every layer out."""
