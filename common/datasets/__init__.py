"""One file per corpus; each reads itself into a `Corpus` of aligned utterances."""
