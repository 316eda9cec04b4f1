"""Where results go, by URI scheme."""
