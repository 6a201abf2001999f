"""What the file of a sweep declares: its schema, what is refused in it, and the trials that follow from it."""
