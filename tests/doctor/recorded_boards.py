"""The recorded boards of this folder, written out as the trees that `harrier doctor --root` looks at."""

import json
from pathlib import Path

from edge.doctor.machine import COMMANDS, Machine, command_file
from edge.structs import read_toml

BOARDS = Path(__file__).parent / "boards"
NAMES = sorted(path.stem for path in BOARDS.glob("*.toml"))

MODULE_OF = {  # where it is not the distribution's name
    "opencv-python": "cv2",
    "opencv-python-headless": "cv2",
    "opencv-contrib-python": "cv2",
    "ai-edge-litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "pyserial": "serial",
    "cuda-python": "cuda",
}


def board_tree(name: str, root: Path) -> Machine:
    """Write a recorded board under `root`."""
    return write_tree(read_toml(BOARDS / f"{name}.toml"), root)


def write_tree(board: dict, root: Path) -> Machine:
    for folder in board.get("folders", ()):
        (root / folder).mkdir(parents=True)
    for path, text in board.get("files", {}).items():
        put(root / path, text.lstrip("\n"))
    for path, target in board.get("links", {}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    for place, device in board.get("usb", {}).items():
        put_usb(root, place, dict(device))
    cpu = dict(board.get("cpu", {}))
    for number in range(cpu.pop("cores", 0)):
        for attribute, text in cpu.items():
            put(root / f"sys/devices/system/cpu/cpu{number}/cpufreq/{attribute}", f"{text}\n")
    (root / COMMANDS).mkdir(parents=True)
    for line, said in board.get("commands", {}).items():
        put(root / COMMANDS / command_file([line]), said.lstrip("\n"))
    for executable, python in board.get("pythons", {}).items():
        put(root / COMMANDS / command_file([executable, "interpreter_probe.py"]), python_said(executable, python))
    return Machine(root)


def python_said(executable: str, python: dict) -> str:
    """What the probe prints in such an interpreter."""
    packages = python.get("packages", {})
    facts = {
        "version": python["version"],
        "executable": executable,
        "bits": python.get("bits", 64),
        "machine": python["machine"],
        "libc": python["libc"],
        "venv": python.get("venv", True),
        "system_packages": python.get("system_packages", True),
        "externally_managed": python.get("externally_managed", False),
        "packages": packages,
        "modules": sorted({MODULE_OF.get(name, name) for name in packages}),
    }
    opencv = python.get("opencv", {"version": "4.12.0", "build": {"gstreamer": "NO"}})
    return json.dumps(facts) + "\n" + json.dumps(opencv)


def python_facts(**changes: object) -> dict:
    """The facts of an interpreter in which all is well, with changes."""
    packages = {"numpy": "2.2.6", "opencv-python-headless": "4.12.0.88", "ai-edge-litert": "2.3.0", "msgspec": "0.20.0"}
    return {"version": [3, 12, 3], "machine": "aarch64", "libc": "glibc 2.39", "packages": packages, **changes}


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))


def put_usb(root: Path, place: str, device: dict) -> None:
    node = device.pop("node", None)
    folder = root / "sys/devices/usb" / place
    (folder / f"{place}:1.0").mkdir(parents=True)
    for attribute, text in device.items():
        put(folder / attribute, f"{text}\n")
    link = root / "sys/bus/usb/devices" / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"../../../devices/usb/{place}")
    if node:
        (root / "sys/class" / node).mkdir(parents=True, exist_ok=True)
        (root / "sys/class" / node / "device").symlink_to(f"../../../devices/usb/{place}/{place}:1.0")


def shown(findings: list) -> list[tuple[str, str, str, str]]:
    """What is not ok, without the words."""
    return [(f.id, f.level, f.subject, f.cure) for f in findings if f.level != "ok"]
