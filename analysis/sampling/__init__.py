"""What is drawn before the forward pass, with a seed: utterances, units, folds."""
