"""Reports in four rooms, each of which imports only those before it: judge, findings, forms, page."""
