"""Ray itself: its address, its start and its processes, and every private part of Ray that is used."""
