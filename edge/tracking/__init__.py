"""Tracking: which detection is the same object as in the frames before, and how it moves."""
