"""Object storage: objects by name under an address, leases on them, and folders of this machine that stand for them.

fsspec reaches the storage. Nothing here knows what the objects mean.
"""
