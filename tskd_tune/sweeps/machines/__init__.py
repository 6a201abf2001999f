"""The machines that a sweep trains on: what they have, which join, and which are lost."""
