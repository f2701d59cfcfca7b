"""Training: pretraining and CTC fine-tuning. Imports common, knows nothing of analysis."""
