"""Training: pretraining of small models. Imports common, knows nothing of analysis."""
