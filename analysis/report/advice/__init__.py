"""Advice in words, each with its numbers and its caveat."""
