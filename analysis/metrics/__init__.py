"""Metrics: frozen dataclasses and pure functions of statistics. One file per family."""
