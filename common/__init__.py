"""What every task needs: speech, encoders, caches, results. Does not import the tasks."""
