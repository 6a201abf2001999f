"""What is written down of a run, of a trial and of a training: one file for each kind of record."""
