"""How the results of a run are to be judged, frozen before they are known, and the confirmations of a search."""
