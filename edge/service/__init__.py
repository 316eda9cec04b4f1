"""`harrier service`: Harrier under systemd, one instance for each configuration in /etc/harrier."""
