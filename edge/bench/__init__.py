"""`harrier bench`: what a set-up costs on this machine, with intervals, and whether the machine was fit to say."""
