"""The task `report`: one page, figures for a paper and one table out of any set of runs."""
