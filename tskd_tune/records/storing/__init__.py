"""How the files of a run are kept: lines of JSON, stores in folders, and the log of a run on an object storage."""
