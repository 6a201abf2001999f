"""The training loop, and what it needs: engine, optimizer, random streams, checkpoints, the cache of teachers."""
