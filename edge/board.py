"""What the machine says of itself: Jetson Linux, memory, NVIDIA's builder. `root`: where its files are looked for."""

from pathlib import Path

__all__ = ["available_mib", "l4t_release", "memory_mib", "swap_free_mib", "trtexec"]

_TRTEXEC = "usr/src/tensorrt/bin/trtexec"  # where JetPack puts it


def l4t_release(root: Path = Path("/")) -> str | None:
    """Return the release of Jetson Linux, for example "35.4.1"; None on any other machine."""
    try:
        words = (root / "etc/nv_tegra_release").read_text(errors="replace").replace(",", " ").split()
    except OSError:
        return None
    release = next((word[1:] for word in words if word.startswith("R") and word[1:].isdigit()), None)
    if release is None or "REVISION:" not in words[:-1]:
        return None
    return f"{release}.{words[words.index('REVISION:') + 1]}"


def available_mib(root: Path = Path("/")) -> int | None:
    """Return the memory in MiB that programs can still get, None where the kernel does not say."""
    return _meminfo_mib(root, "MemAvailable")


def memory_mib(root: Path = Path("/")) -> int | None:
    """Return the memory in MiB there is, None where the kernel does not say."""
    return _meminfo_mib(root, "MemTotal")


def swap_free_mib(root: Path = Path("/")) -> int | None:
    """Return the swap in MiB that is not in use, None where the kernel does not say."""
    return _meminfo_mib(root, "SwapFree")


def trtexec(root: Path = Path("/")) -> Path | None:
    """Return NVIDIA's command-line builder where JetPack installs it, None when it is not there."""
    path = root / _TRTEXEC
    return path if path.is_file() else None


def _meminfo_mib(root: Path, key: str) -> int | None:
    try:
        text = (root / "proc/meminfo").read_text(errors="replace")
    except OSError:
        return None
    kib = next((line.split()[1:2] for line in text.splitlines() if line.startswith(f"{key}:")), [])
    return int(kib[0]) // 1024 if kib and kib[0].isdecimal() else None
