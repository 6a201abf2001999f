"""Search spaces, searchers and schedulers, and the code that runs and resumes sweeps."""
