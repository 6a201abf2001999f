"""One training from its first epoch to its row: what is recorded, where it is kept, and how it breaks."""
