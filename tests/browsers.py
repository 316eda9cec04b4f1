"""A headless Chromium that tests drive over its debugging WebSocket."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

aiohttp = pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

WITHIN_S = 15.0


class Browser:
    """One tab of a headless Chromium."""

    def __init__(self, ws: "aiohttp.ClientWebSocketResponse") -> None:
        self._ws = ws
        self._count = 0

    async def call(self, method: str, **params: object) -> dict:
        self._count += 1
        await self._ws.send_json({"id": self._count, "method": method, "params": params})
        while True:
            answer = await asyncio.wait_for(self._ws.receive_json(), WITHIN_S)
            if answer.get("id") == self._count:
                return answer["result"]

    async def value(self, script: str) -> object:
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not await self.value(script):
            assert time.monotonic() < deadline, (
                f"{script} did not come true: {await self.value('document.body.innerText')}"
            )
            await asyncio.sleep(0.02)

    async def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))


@asynccontextmanager
async def tab_of(address: str) -> AsyncIterator[Browser]:
    """A new tab of the browser whose debugging server is at this address."""
    async with aiohttp.ClientSession() as http:
        async with http.put(f"{address}/json/new?about:blank") as answer:
            target = json.loads(await answer.text())["webSocketDebuggerUrl"]
        async with http.ws_connect(target, max_msg_size=0) as ws:
            yield Browser(ws)


@contextmanager
def chromium(folder: Path) -> Iterator[str]:
    """The address of a running Chromium's debugging server."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on the PATH")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    process = subprocess.Popen(
        [program, *options, "--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port_file = folder / "profile" / "DevToolsActivePort"
        deadline = time.monotonic() + 30
        while not (port_file.exists() and "\n" in port_file.read_text()):
            assert process.poll() is None, "chromium ended"
            assert time.monotonic() < deadline, "chromium does not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text().split()[0]}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
