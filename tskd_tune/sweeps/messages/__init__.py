"""What the driver of a sweep and its trials tell one another through Ray Tune."""
