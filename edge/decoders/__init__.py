"""From output tensors to candidates, by model family."""
