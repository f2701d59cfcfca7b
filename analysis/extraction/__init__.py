"""Layers and discrete units of utterances, written to files."""
