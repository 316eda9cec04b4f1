"""Board, JetPack, memory size and what kind of system this is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edge.bench import fingerprint
from edge.doctor.finding import Finding, note, ok, problem
from edge.doctor.interpreters import own_interpreter
from edge.doctor.machine import Machine

__all__ = ["WORKER_CURE", "Jetson", "board_findings", "container_of", "is_pi", "jetson_of", "memory_mib"]

WORKER_CURE = 'python = "/usr/bin/python3"  # under [engine] of the configuration'
"""What lets the system's own interpreter run the engine."""

# compute capability by the chip's name in the device tree
_SM_OF_CHIP = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a JetPack brings."""

    l4t: tuple[int, int]
    ubuntu: str
    python: tuple[int, int]
    cuda: str
    tensorrt: str


# from which Jetson Linux (L4T) on, NVIDIA's archive of releases
_CONTENTS = (
    _Contents((32, 4), "18.04", (3, 6), "10.2", "7.1"),
    _Contents((32, 6), "18.04", (3, 6), "10.2", "8.0"),
    _Contents((32, 7), "18.04", (3, 6), "10.2", "8.2"),
    _Contents((34, 1), "20.04", (3, 8), "11.4", "8.4"),
    _Contents((35, 2), "20.04", (3, 8), "11.4", "8.5"),
    _Contents((36, 2), "22.04", (3, 10), "12.2", "8.6"),
    _Contents((36, 4), "22.04", (3, 10), "12.6", "10.3"),
    _Contents((38, 0), "24.04", (3, 12), "13.0", "10.13"),
    _Contents((39, 0), "24.04", (3, 12), "13.2", "10.16"),
)


@dataclass(frozen=True, slots=True)
class Jetson:
    """A Jetson: its chip, compute capability and release of Jetson Linux; "" and None where nothing tells."""

    chip: str
    sm: str
    l4t: str
    contents: _Contents | None

    @property
    def system_python(self) -> tuple[int, int] | None:
        """The version of its own Python, for which JetPack has TensorRT's module."""
        return self.contents.python if self.contents else None


def jetson_of(machine: Machine) -> Jetson | None:
    """Return what kind of Jetson this is, None for another machine."""
    compatible = machine.text("proc/device-tree/compatible")
    chip = next((chip for chip in _SM_OF_CHIP if chip in compatible), "")
    l4t = _l4t(machine)
    if not chip and not l4t:
        return None
    numbers = tuple(int(part) for part in l4t.split(".")[:2] if re.fullmatch(r"\d{1,4}", part))
    fitting = [row for row in _CONTENTS if len(numbers) == 2 and row.l4t <= numbers and row.l4t[0] == numbers[0]]
    return Jetson(chip, _SM_OF_CHIP.get(chip, ""), l4t, fitting[-1] if fitting else None)


def is_pi(machine: Machine) -> bool:
    """Return whether this is a Raspberry Pi."""
    return machine.text("proc/device-tree/model").startswith("Raspberry Pi")


def container_of(machine: Machine) -> str:
    """Return what kind of container this is, "" for none."""
    if machine.exists(".dockerenv"):
        return "Docker"
    if machine.exists("run/.containerenv"):
        return "Podman"
    groups = machine.text("proc/1/cgroup")
    return next((kind for kind in ("docker", "kubepods", "containerd", "lxc") if f"/{kind}" in groups), "")


def memory_mib(machine: Machine, key: str) -> float | None:
    """Return a value of /proc/meminfo such as MemTotal in MiB."""
    found = re.search(rf"^{key}:\s+(\d{{1,18}}) kB", machine.text("proc/meminfo"), re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def board_findings(machine: Machine) -> Iterator[Finding]:
    """Yield what board this is, what its system brings, and whether it is a container."""
    facts = fingerprint.fingerprint(machine.root, machine.tool)
    own = own_interpreter(machine)
    total_mib = memory_mib(machine, "MemTotal")
    parts = [
        own.machine if own else "",
        f"{facts['cores']} cores" if facts["cores"] else "",
        f"{total_mib / 1024:.1f} GiB" if total_mib else "",
        facts["os"] or "",
    ]
    name = facts["board"] or facts["cpu"] or "unknown"
    yield ok("board.model", "board", ", ".join([name, *filter(None, parts)]))
    if jetson := jetson_of(machine):
        yield from _jetpack(machine, jetson, facts["jetpack"])
    if own and own.bits == 32:
        why = "there are no 32-bit wheels of LiteRT, and none of OpenCV and ONNX Runtime from the package index"
        kernel = "a 64-bit kernel, but " if own.machine == "aarch64" else ""
        cure = (
            "install the 64-bit system (Raspberry Pi Imager: Raspberry Pi OS, 64-bit)"
            if is_pi(machine)
            else ("install a 64-bit system")
        )
        yield problem("board.bits", "system", f"{kernel}programs of 32 bits", why, cure)
    if kind := container_of(machine):
        why = "devices are here only when handed in, and clock, power and services are the host's"
        cure = "docker run --device /dev/video0"
        if jetson:
            cure += " --runtime nvidia"
        cure += " ...  # and run harrier doctor on the host, too"
        yield note("board.container", kind, "this is a container", why, cure)


def _jetpack(machine: Machine, jetson: Jetson, name: str | None) -> Iterator[Finding]:
    if not jetson.l4t:
        why = "without the release nobody can say which TensorRT and CUDA belong to it"
        cure = "cat /etc/nv_tegra_release  # in a container: on the host, and use an image of that L4T release"
        yield note("board.jetpack", "JetPack", f"a Jetson ({jetson.chip}) without a release of Jetson Linux", why, cure)
        return
    said = name or f"L4T R{jetson.l4t}"
    if jetson.sm:
        said += f", compute capability {jetson.sm}"
    contents = jetson.contents
    if contents is None:
        yield note("board.jetpack", "JetPack", f"{said}: not known to this version of Harrier")
        return
    python = ".".join(map(str, contents.python))
    said += f": Ubuntu {contents.ubuntu}, Python {python}, CUDA {contents.cuda}, TensorRT {contents.tensorrt}"
    if contents.python >= (3, 10):
        yield ok("board.jetpack", "JetPack", said)
        return
    why = f"Harrier needs Python 3.10, and JetPack's TensorRT module is for Python {python}: it runs in a worker"
    yield note("board.jetpack", "JetPack", said, why, WORKER_CURE)


def _l4t(machine: Machine) -> str:
    """The release of Jetson Linux as in "36.4.3", from its file, else from its package."""
    text = machine.text("etc/nv_tegra_release")
    if found := re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text):
        return f"{found[1]}.{found[2]}"
    said = machine.tool(["dpkg-query", "--showformat=${Version}", "--show", "nvidia-l4t-core"]) or ""
    return said.partition("-")[0] if re.match(r"\d+\.\d+", said) else ""
