"""Small files beside the rows: which samples a student got right, and examples of its answers."""
