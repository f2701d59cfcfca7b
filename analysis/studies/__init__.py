"""Kinds of study, by what a metric needs: moments of frames, vectors of units, frames."""
