"""A machine made of a folder and of stand-ins for systemd's tools, which write down what they are asked."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

NULL = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"{log}"
case "$1" in
--version) echo "systemd {version} (test)" ;;
show) cat "{show}" ;;
esac
[ "$(basename "$0")" = journalctl ] && echo "a line of the log"
exit 0
"""


class Machine:
    """The root folder of a made-up machine."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._log, self._show = folder / "calls", folder / "show"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/group").write_text("root:x:0:\nvideo:x:44:\ndialout:x:20:\nusers:x:100:\n")
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        self._bin = folder / "bin"
        self._bin.mkdir()
        self.be_systemd(252)
        self.show(ActiveState="active", StatusText="30.0 results/s, age 21 ms")

    def be_systemd(self, version: int) -> None:
        """Put the stand-ins into their place."""
        for name in ("systemctl", "udevadm", "useradd", "journalctl"):
            path = self._bin / name
            path.write_text(STAND_IN.format(log=self._log, show=self._show, version=version))
            path.chmod(0o755)

    def show(self, **properties: str) -> None:
        """Set what `systemctl show` prints."""
        self._show.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))

    @property
    def path(self) -> str:
        """The PATH with the stand-ins first."""
        return f"{self._bin}{os.pathsep}{os.environ['PATH']}"

    @property
    def calls(self) -> list[str]:
        """What the tools were asked, in order."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def file(self, path: str) -> Path:
        """A file under the root."""
        return self.root / path.lstrip("/")


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    found = Machine(tmp_path)
    monkeypatch.setenv("PATH", found.path)
    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "home"))  # install sets it for the process: put back after
    return found


@pytest.fixture
def configuration(tmp_path) -> Callable[..., Path]:
    """Write a configuration that is right, but for what a test changes."""

    def write(name: str = "front.toml", **changes: object) -> Path:
        model = tmp_path / "m.null"
        model.write_text(NULL)
        keys = {"model": f'"{model}"', "source": '"synthetic://?fps=15"', "publish": '["tcp://127.0.0.1:0"]', **changes}
        path = tmp_path / name
        path.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
        return path

    return write
