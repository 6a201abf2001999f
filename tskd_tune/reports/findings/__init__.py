"""The results of a run: the arms, their comparisons, costs, warnings and missing runs."""
