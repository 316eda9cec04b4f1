"""The reader's end of each transport, by URI scheme; `edge.client` makes connections of them."""
