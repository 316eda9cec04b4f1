"""What goes over the wire. JSON lines now; a format is one module with `encode` and `decode`."""
