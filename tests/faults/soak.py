"""An accelerated soak: a real `harrier run` at many frames a second, with a fault every few seconds, at random, seeded.

python tests/faults/soak.py --minutes 15 --fps 120 [--seed N] [--model face --picture FILE] [--report FILE.json]

Exits with 6 where memory grows, threads or descriptors leak, results stop for longer than the faults explain, or the
run does not end as it should.
"""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from broken_runs import Camera, Reader, Run, null_bundle, wait_for

from edge.bench.intervals import sen_slope

SAMPLE_S = 5.0
SETTLING_SHARE = 0.2
LONGEST_GAP_S = 10.0  # beside the time for which a fault itself takes the pictures away
CONFIG = """
model = "{model}"
source = "{source}"
publish = {publish}
frame_timeout_s = 0.5
[engine]
{targets}
isolate = true
deadline_ms = 300
max_failures = 3
retry_s = 2
[thresholds]
score = {score}
[web]
listen = "127.0.0.1:{port}"
[update]
shadow_frames = 50
watch_s = 2
"""


class Line:
    """A serial line of two pseudo terminals' worth: a link that stays, a port behind it that can be pulled."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.plug()
        threading.Thread(target=self._drain, daemon=True).start()

    def plug(self) -> None:
        self.master, slave = os.openpty()
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(slave))
        os.close(slave)

    def unplug(self) -> None:
        self.link.unlink()
        master, self.master = self.master, -1
        os.close(master)

    def noise(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self.master, data)

    def _drain(self) -> None:
        while True:
            try:
                os.read(self.master, 65536)
            except OSError:
                time.sleep(0.05)


class Soak:
    """The run, what breaks it, and what is noted meanwhile."""

    def __init__(self, folder: Path, disk: Path, given: argparse.Namespace) -> None:
        self.folder, self.disk, self.given = folder, disk, given
        self.random = random.Random(given.seed)
        self.camera, self.line = Camera(folder), Line(folder / "line")
        self.bundles = [null_bundle(folder / f"bundle-{n}", 0.5 + n / 10) for n in range(2)]
        self.home = os.environ.get("HARRIER_HOME", "") if given.model else str(folder / "home")
        if not given.model:
            self.install(0)
        self.model = given.model or "front"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.score = 0.5
        self.run = Run(folder, self._config(), ["--stats", str(folder / "stats.json")], HARRIER_HOME=self.home)
        self.faults: dict[str, list[float]] = {}
        self.samples: list[tuple[float, float, int, int]] = []
        self.gaps: list[tuple[float, str]] = []
        self.versions = 0
        self.t_result_s = time.monotonic()
        self.results = 0
        self.doing = ""
        self.ended = False

    def _config(self) -> str:
        camera = f"fps={self.given.fps}&read_timeout_s=0.5&open_timeout_s=2&backoff_s=0.1&backoff_max_s=0.5"
        camera += "&frozen_s=1&blank_s=1"
        if self.given.picture:
            camera += f"&picture={self.given.picture}&size=320x240"
        publish = [
            "tcp://127.0.0.1:0",
            f"unix://{self.folder}/socket",
            f"serial://{self.line.link}?baud=460800",
            f"file://{self.disk}/results.jsonl",
            f"mcap://{self.disk}/recordings?total_mb=40&max_mb=10&min_free_mb=0&max_hz=10&flush_s=0.5&sync=off",
        ]
        return CONFIG.format(
            model=self.model,
            source=self.camera.uri(camera),
            publish=json.dumps(publish),
            targets="" if self.given.model else 'target = "first"\nfallback = ["second"]',
            score=self.score,
            port=self.port,
        )

    # What breaks it: each returns when what was broken is whole again.

    def camera_unplugged(self) -> None:
        self._camera("gone", self.random.uniform(0.1, 3))

    def camera_silent(self) -> None:
        self._camera("hang", self.random.uniform(0.1, 3))

    def camera_frozen(self) -> None:
        self._camera("freeze", self.random.uniform(0.5, 3))

    def camera_black(self) -> None:
        self._camera("black", self.random.uniform(0.5, 3))

    def camera_of_another_size(self) -> None:
        width, height = self.random.choice([(32, 32), (160, 120), (641, 479), (48, 64)])
        self._camera(f"resize {width} {height}", self.random.uniform(0.2, 2))

    def camera_with_bad_frames(self) -> None:
        self._camera("bad", self.random.uniform(0.2, 2))

    def engine_killed(self) -> None:
        self._engine(signal.SIGKILL)

    def engine_hangs(self) -> None:
        self._engine(signal.SIGSTOP)

    def line_unplugged(self) -> None:
        self.line.unplug()
        time.sleep(self.random.uniform(0.1, 2))
        self.line.plug()

    def line_noisy(self) -> None:
        for _ in range(50):
            self.line.noise(self.random.randbytes(64))
            time.sleep(0.01)

    def readers_flood(self) -> None:
        host, port = self.run.address.removeprefix("tcp://").split(":")
        for _ in range(500):
            with contextlib.suppress(OSError), socket.socket() as one:
                one.settimeout(0.5)
                one.connect((host, int(port)))
                one.sendall(self.random.randbytes(self.random.choice([0, 1, 200])))
            time.sleep(0.001)

    def readers_that_never_read(self) -> None:
        host, port = self.run.address.removeprefix("tcp://").split(":")
        held = [socket.create_connection((host, int(port)), 1) for _ in range(20)]
        time.sleep(1)
        for one in held:
            one.close()

    def disk_full(self) -> None:
        filler = self.disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 65536)
        time.sleep(self.random.uniform(0.2, 2))
        filler.unlink()

    def reload(self) -> None:
        self.score = self.random.choice([0.2, 0.3, 0.4])
        self.run.config.write_text(self._config())
        self.run.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)

    def reload_of_nonsense(self) -> None:
        self.run.config.write_text("model = 3\n")
        self.run.process.send_signal(signal.SIGHUP)
        time.sleep(0.7)
        self.run.config.write_text(self._config())

    def another_version(self) -> None:
        self.versions += 1
        self.install(self.versions % 2)
        time.sleep(3.5)  # it is tried, takes over and proves itself

    def install(self, number: int) -> None:
        command = [sys.executable, "-m", "edge", "model", "install", str(self.bundles[number])]
        subprocess.run(command, env={**os.environ, "HARRIER_HOME": self.home}, check=True, capture_output=True)

    def pages_asked_for(self) -> None:
        for path in ("healthz", "metrics", "", "nothing", "api/state"):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5).read()

    def _camera(self, order: str, seconds: float) -> None:
        self.camera.tell(order)
        time.sleep(seconds)
        self.camera.tell("ok")

    def _engine(self, number: signal.Signals) -> None:
        if pid := self.run.engine_pid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # What is noted.

    def read(self) -> None:
        """On a thread: the time between results, as a robot sees it."""
        doing = ""
        with Reader(self.run.address) as reader:
            while not self.ended:
                message = reader.connection.read(0.2)
                if message is None or message.kind == "status":
                    continue
                now = time.monotonic()
                if now - self.t_result_s > 0.25 and doing:
                    self.gaps.append((now - self.t_result_s, doing))
                self.t_result_s, self.results, doing = now, self.results + 1, self.doing

    def sample(self) -> None:
        """On a thread: memory, threads and descriptors of the loop's process."""
        begin, process = time.monotonic(), Path(f"/proc/{self.run.process.pid}")
        while not self.ended and self.run.process.poll() is None:
            with contextlib.suppress(OSError):
                said = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
                rss_mb = int(said["VmRSS"].split()[0]) * 1024 / 1e6
                fds = len(list((process / "fd").iterdir()))
                self.samples.append((time.monotonic() - begin, rss_mb, int(said["Threads"]), fds))
            time.sleep(SAMPLE_S)

    def go(self) -> None:
        """Break one thing after the other until the time is over."""
        faults = [
            self.camera_unplugged, self.camera_silent, self.camera_frozen, self.camera_black,
            self.camera_of_another_size, self.camera_with_bad_frames, self.engine_killed, self.engine_hangs,
            self.line_unplugged, self.line_noisy, self.readers_flood, self.readers_that_never_read, self.reload,
            self.reload_of_nonsense, self.pages_asked_for, *([self.disk_full] if self.given.small_disk else []),
            *([] if self.given.model else [self.another_version]),
        ]  # fmt: skip
        end = time.monotonic() + self.given.minutes * 60
        while time.monotonic() < end and self.run.process.poll() is None:
            fault = self.random.choice(faults)
            self.doing = fault.__name__
            fault()
            whole = time.monotonic()
            results = self.results
            with contextlib.suppress(AssertionError):
                wait_for(lambda: self.results > results, "results", 60)  # noqa: B023
            self.faults.setdefault(fault.__name__, []).append(time.monotonic() - whole)
            time.sleep(self.random.uniform(0.3, 3))

    def conclude(self, elapsed_s: float, code: int) -> dict:
        """The figures, and what is wrong with them."""
        t, rss, threads, fds = (np.array(column, float) for column in zip(*self.samples, strict=True))
        settled = t > t[-1] * SETTLING_SHARE
        slope = sen_slope(t[settled] / 3600, rss[settled])
        quarter = max(1, settled.sum() // 4)
        grown = {
            name: float(np.median(values[settled][-quarter:]) - np.median(values[settled][:quarter]))
            for name, values in (("rss_mb", rss), ("threads", threads), ("fds", fds))
        }
        away = [gap for gap, doing in self.gaps if doing not in ("camera_unplugged", "camera_silent")]
        problems = [f"it ended with {code}"] if code else []
        problems += [f"{name} grew by {n:.0f}" for name, n in grown.items() if name != "rss_mb" and n > 2]
        hours = (t[-1] - t[settled][0]) / 3600
        if slope.low is not None and slope.low * hours > 5:
            problems.append(f"memory grew by {slope.value * hours:.1f} MB")
        problems += [f"no result for {gap:.1f} s" for gap in away if gap > LONGEST_GAP_S]
        if "Traceback" in self.run.log or "as a defect" in self.run.log:
            problems.append("the log holds a traceback or a defect")
        return {
            "seed": self.given.seed,
            "elapsed_s": round(elapsed_s, 1),
            "frames": json.loads((self.folder / "stats.json").read_text())["frames"],
            "results_read": self.results,
            "broken": sum(len(s) for s in self.faults.values()),
            "faults": {
                name: {
                    "n": len(s),
                    "recovery_median_s": round(float(np.median(s)), 3),
                    "longest_s": round(max(s), 3),
                    "longest_gap_s": round(max((gap for gap, doing in self.gaps if doing == name), default=0.0), 3),
                }
                for name, s in sorted(self.faults.items())
            },
            "rss_mb": [
                round(float(np.median(rss[settled][:quarter])), 1),
                round(float(np.median(rss[settled][-quarter:])), 1),
            ],
            "rss_slope_mb_per_hour": [
                round(x, 2) for x in (slope.value, slope.low or math.nan, slope.high or math.nan)
            ],
            "threads": [int(threads[settled].min()), int(np.median(threads[settled])), int(threads[settled].max())],
            "fds": [int(fds[settled].min()), int(np.median(fds[settled])), int(fds[settled].max())],
            "grown": grown,
            "longest_gap_s": round(max((gap for gap, _ in self.gaps), default=0.0), 3),
            "longest_gap_with_camera_s": round(max(away, default=0.0), 3),
            "problems": problems,
        }


def main() -> int:
    """Run it, print the figures, return 0 or 6."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--fps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="")
    parser.add_argument("--picture", default="")
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="harrier-soak-"))
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)]
    given.small_disk = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    soak = Soak(folder, disk, given)
    begin = time.monotonic()
    try:
        soak.run.says("publishing to tcp://")
        threads = [threading.Thread(target=work) for work in (soak.read, soak.sample)]
        for thread in threads:
            thread.start()
        wait_for(lambda: soak.results > 100, "the first results", 60)
        begin = time.monotonic()
        soak.go()
    finally:
        soak.ended = True
        elapsed_s = time.monotonic() - begin
        soak.camera.tell("ok")
        soak.run.process.terminate()
        try:
            code = soak.run.process.wait(30)
        except subprocess.TimeoutExpired:
            soak.run.process.kill()
            code = soak.run.process.wait()
        for thread in threads:
            thread.join()
        if given.small_disk:
            subprocess.run(["umount", str(disk)], check=False)
    figures = soak.conclude(elapsed_s, code)
    if not figures["problems"]:
        shutil.rmtree(folder)
    print(json.dumps(figures, indent=2))
    if given.report:
        given.report.write_text(json.dumps(figures, indent=2) + "\n")
    return 6 if figures["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
