"""Frame sources, by URI scheme."""
