"""Domains for tests: one each, in a random order, so that neither they nor other processes meet in one."""

import random

_FREE = random.SystemRandom().sample(range(1, 231), 230)  # rclpy takes ports up to domain 231 only


def next_domain() -> int:
    return _FREE.pop()
