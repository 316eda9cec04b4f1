"""The C library under damage and sanitizers, and what it may need of a compiler."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from controller import FIRMWARE, STRICT, build, tool
from golden_messages import FOLDER

GOLDEN = sorted(FOLDER.glob("*.bin"))
SANITIZED = ("-g", "-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MUTATED = 1_000_000


def output_of(*words: str | Path, timeout_s: float = 120) -> str:
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout_s)
    assert result.returncode == 0, f"exit code {result.returncode}\n{result.stderr[-4000:]}"
    return result.stdout


def most_by_chance(trials: int, odds: float, certainty: float) -> int:
    """The number of successes that is exceeded with a probability below 1 - certainty (binomial distribution)."""
    log_term = trials * math.log1p(-odds)
    below, k = math.exp(log_term), 0
    while below < certainty:
        log_term += math.log(trials - k) - math.log(k + 1) + math.log(odds) - math.log1p(-odds)
        k += 1
        below += math.exp(log_term)
    return k


def test_the_bound_is_the_binomial_one():
    assert most_by_chance(10, 0.5, 0.99) == 9  # 1 - 1/1024 - 10/1024 = 0.9893
    assert 40 < most_by_chance(MUTATED, 1 / 65536, 1 - 1e-9) < 50


def test_a_million_damaged_messages(tmp_path):
    """No crash, and no more false accepts than a checksum of 16 bits cannot help.

    Of N messages with random damage N / 65536 = 15.3 pass such a checksum on average; more than 44 do with a
    probability below 1e-9. Damage of one bit or one burst is always found, so there are rather fewer.
    """
    program = tmp_path / "mutate"
    build(tool("gcc", "gcc"), *STRICT[:-3], "-Werror", *SANITIZED, FIRMWARE / "fuzz" / "mutate.c", "-o", program)
    fed, whole, wrong, foreign, made_up = map(int, output_of(program, MUTATED, 1, *GOLDEN).split())
    bound = most_by_chance(MUTATED, 1 / 65536, 1 - 1e-9)
    assert fed == MUTATED
    assert wrong + foreign <= bound
    assert wrong + foreign > 0, "no damage came as far as the checksum"
    assert whole < fed / 100
    assert made_up > fed / 20, "hardly anything was taken with a made-up checksum: lengths were not tried"


def test_libfuzzer_finds_nothing(tmp_path):
    clang = tool("clang", "clang and libclang-rt-dev")
    program, corpus = tmp_path / "fuzz", tmp_path / "corpus"
    corpus.mkdir()
    for path in GOLDEN:
        (corpus / path.name).write_bytes(path.read_bytes())
    fuzzing = ("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    probe = tmp_path / "probe.c"
    probe.write_text("int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p && n > 1000000000; }\n")
    if subprocess.run([clang, *fuzzing, probe, "-o", program], capture_output=True, timeout=60).returncode:
        tool("clang's libFuzzer", "libclang-rt-dev")
    build(clang, *STRICT[:-3], "-Werror", *fuzzing, FIRMWARE / "fuzz" / "fuzz.c", "-o", program)
    # its own limit counts what this process had at its peak, which a child inherits
    limits = ("-rss_limit_mb=0", "-malloc_limit_mb=64", "-max_len=512")
    output_of(program, "-runs=50000", "-seed=1", *limits, "-print_final_stats=0", corpus, timeout_s=300)


@pytest.mark.parametrize("options", [(), ("-DHARRIER_BUFFER_BYTES=64",), ("-DHARRIER_DRIFT_PPM=20", "-O3")], ids=str)
@pytest.mark.parametrize(
    ("compiler", "package", "words"),
    [
        ("gcc", "gcc", ()),
        ("clang", "clang", ()),
        ("arm-none-eabi-gcc", "gcc-arm-none-eabi", ("-mthumb", "-mcpu=cortex-m0")),
        ("arm-none-eabi-gcc", "gcc-arm-none-eabi", ("-mthumb", "-mcpu=cortex-m3")),
    ],
    ids=["gcc", "clang", "m0", "m3"],
)
def test_compilers_have_nothing_to_say(compiler, package, words, options, tmp_path):
    build(
        tool(compiler, package), *STRICT, "-Os", *words, *options, "-c", FIRMWARE / "harrier.c", "-o", tmp_path / "h.o"
    )


def test_it_needs_nothing_of_the_c_library_but_memcpy(tmp_path):
    made = tmp_path / "harrier.o"
    words = ("-std=c99", "-Os", "-mthumb", "-mcpu=cortex-m3", "-c", FIRMWARE / "harrier.c", "-o", made)
    build(tool("arm-none-eabi-gcc", "gcc-arm-none-eabi"), *words)
    needed = output_of("arm-none-eabi-nm", "--undefined-only", "--format=just-symbols", made).split()
    assert set(needed) <= {"memcpy"}
    sections = [line.split() for line in output_of("arm-none-eabi-size", made).splitlines()[1:]]
    text, data, bss = map(int, sections[0][:3])
    assert text < 3500
    assert data == bss == 0


def test_the_sizes_in_the_documentation_are_of_this_library():
    """Memory to the byte, flash within what compilers differ by."""
    tool("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    page = (FIRMWARE.parents[1] / "docs" / "firmware.md").read_text(encoding="utf-8")
    measured = [
        line
        for line in output_of(sys.executable, FIRMWARE / "size.py").splitlines()
        if line[2:3].isupper() or "`" in line
    ]
    assert len(measured) >= 8
    for line in measured:
        _, name, *figures, _ = line.split("|")
        shown = [row.split("|")[2:-1] for row in page.splitlines() if row.startswith(f"|{name}|")]
        assert shown, f"docs/firmware.md lacks {name}"
        slack = 0.0 if "`" in name else 0.15
        for old, new in zip(shown[0], figures, strict=True):
            assert abs(as_number(old) - as_number(new)) <= slack * as_number(new), f"{name}: run size.py"


def as_number(cell: str) -> int:
    return int(cell.replace(",", ""))
