"""A run as a whole: where it lies, how it is found, and what is in its folder."""
