"""From source pixels to the input tensor, and boxes back."""
