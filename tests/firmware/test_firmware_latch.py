"""Handing over between interrupt and loop: every order of steps of its algorithm, and the C code on two threads."""

import subprocess

from controller import FIRMWARE, HERE, build, tool

Loop = tuple[str, int]
State = tuple[int, int, int, str, int, Loop]  # newest, reading, writing; the interrupt's next step, what it read; loop


def steps_of_the_interrupt(state: State, any_other: bool) -> list[State]:
    """offer() of harrier.c, a shared byte a step. In `fill` it may be writing into its place."""
    newest, reading, writing, step, read, loop = state
    if step == "fill":
        return [(newest, reading, writing, "publish", read, loop)]
    if step == "publish":
        return [(writing, reading, writing, "look", read, loop)]
    if step == "look":
        return [(newest, reading, writing, "choose", reading, loop)]
    free = 3 - newest - read if newest != read and not any_other else (newest + 1) % 3
    return [(newest, reading, free, "fill", read, loop)]


def steps_of_the_loop(state: State, looks_again: bool) -> list[State]:
    """take() of harrier.c, likewise. In `use` it may be reading its place."""
    newest, reading, writing, step, read, (at, held) = state
    if at == "ask":
        return [(newest, reading, writing, step, read, ("tell", newest))]
    if at == "tell":
        return [(newest, held, writing, step, read, ("check", held))]
    if at == "check":
        return [(newest, reading, writing, step, read, ("use" if newest == held or not looks_again else "ask", held))]
    return [(newest, reading, writing, step, read, ("ask", held))]


def has_a_clash(any_other: bool = False, looks_again: bool = True) -> bool:
    """Whether some order of steps lets the loop read what the interrupt may be writing."""
    start: State = (0, 0, 1, "fill", 0, ("ask", 0))
    found, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        _, _, writing, step, _, (at, held) = state
        if step == "fill" and at == "use" and writing == held:
            return True
        for after in steps_of_the_interrupt(state, any_other) + steps_of_the_loop(state, looks_again):
            if after not in found:
                found.add(after)
                waiting.append(after)
    assert len(found) > 50
    return False


def test_no_order_of_steps_clashes():
    assert not has_a_clash()


def test_every_part_of_it_is_needed():
    assert has_a_clash(any_other=True)
    assert has_a_clash(looks_again=False)


def test_no_result_is_read_half_written(tmp_path):
    program = tmp_path / "threads"
    sources = (HERE / "threads.c", FIRMWARE / "harrier.c")
    build(
        tool("gcc", "gcc"),
        "-std=gnu99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O2",
        "-pthread",
        "-I",
        FIRMWARE,
        *sources,
        "-o",
        program,
    )
    result = subprocess.run([program, "300000", "2000"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"exit code {result.returncode}: see threads.c"
    seen, last, fed = map(int, result.stdout.split())
    assert last == fed, "the newest result was not there in the end"
    assert seen >= 2000
