"""Training: pretraining of small models, and fine-tuning. Knows `common` and nothing of analysis."""
