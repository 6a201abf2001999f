"""The study ``overhead``: what reviewing costs, in seconds, operations and bytes, measured and predicted."""
