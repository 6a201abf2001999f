"""What a run found: its arms, their comparison, costs, warnings and what is missing."""
