"""Any Hugging Face speech encoder: its description, its weights, its layers as they come."""
