"""A search space, what searches it, and how a sweep is run and resumed."""
