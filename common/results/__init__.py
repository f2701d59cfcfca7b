"""Rows, tables and metadata of a run."""
