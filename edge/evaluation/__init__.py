"""`harrier eval` and `harrier explain`: how accurate a model is on a labelled set, and which stage lost it."""
