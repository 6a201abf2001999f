"""What a sweep will cost: hours and disk, measured by a few steps on this machine."""
