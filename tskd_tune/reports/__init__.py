"""Tables and the page of a run; they only read records."""
