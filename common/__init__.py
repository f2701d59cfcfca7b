"""What every task needs: speech, encoders, caches, results. Imports neither of its siblings."""
