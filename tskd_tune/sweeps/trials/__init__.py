"""What the worker processes of a trial run: its trainings, their files, and several workers for one trial."""
