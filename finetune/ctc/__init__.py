"""Fine-tuning for recognition by CTC, evaluating and transcribing."""
