"""Pretraining of small models: by contrast, or by masked units."""
