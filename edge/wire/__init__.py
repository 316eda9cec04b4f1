"""What goes over the wire: typed messages, and the formats (JSON lines, binary) and framings that carry them."""
