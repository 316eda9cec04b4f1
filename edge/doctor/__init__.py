"""`harrier doctor`: what this machine has, what stands in the way, and the command that cures it.

Needs the standard library only, so that it can say which package is missing. Every check reads through one `Machine`,
which may be a copied or recorded tree instead of this machine.
"""
