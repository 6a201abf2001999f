"""What a result rests on: the frozen protocol, interim analyses, and runs that extend, repeat or confirm a run."""
