"""The study ``temporal``: forecasts of units, attention maps and weights over the epochs."""
