"""What a layer is compared with: mel, another layer or model, labels, word vectors, pairs."""
