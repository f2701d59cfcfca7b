"""What the representations are good for without training anything: words, boundaries, sentences."""
