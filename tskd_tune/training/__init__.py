"""The only loop, and what it stands on: optimizer, random streams, checkpoints, the teachers' cache."""
