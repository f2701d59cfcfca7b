"""Training: pretraining and CTC fine-tuning. Imports common, not analysis."""
