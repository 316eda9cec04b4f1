"""examples/browser/index.html in a real browser, which is driven over its debugging WebSocket."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import Browser, chromium, tab_of

from edge.clock import monotonic_ns
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire.building import Stream, greeting, heartbeat_of, status_of
from edge.wire.messages import DetectionRecord, DetectionsMessage

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "examples/browser/index.html"
STREAM = Stream(source="front", model="yolox-nano", labels=("person", "bicycle"), ttl_ms=500, heartbeat_ms=100)


def result(seq: int, boxes: int) -> DetectionsMessage:
    now = time.time_ns()
    return DetectionsMessage(
        source=STREAM.source,
        seq=seq,
        t_publish_ns=now,
        t_capture_ns=now - 20_000_000,
        t_capture_local_ns=monotonic_ns() - 20_000_000,
        age_ms=20.0,
        ttl_ms=STREAM.ttl_ms,
        frame=(1280, 720),
        model=STREAM.model,
        model_id=STREAM.model_id,
        detections=[
            DetectionRecord("person", 0, 0.91, (100.0, 90.0, 420.0, 690.0), track_id=4),
            DetectionRecord("bicycle", 1, 0.55, (600.0, 300.0, 1180.0, 700.0)),
        ][:boxes],
    )


@pytest.fixture
def devtools(tmp_path: Path) -> Iterator[str]:
    with chromium(tmp_path) as address:
        yield address


async def drive(address: str, publisher: Publisher, pictures: Path) -> None:
    async with tab_of(address) as tab:
        await walk_through(tab, publisher, pictures)


async def walk_through(tab: Browser, publisher: Publisher, pictures: Path) -> None:
    page = publisher.address.replace("ws://", "http://") + "/#token=sesame"
    await tab.call("Emulation.setDeviceMetricsOverride", width=1180, height=640, deviceScaleFactor=1, mobile=False)
    await tab.call("Page.navigate", url=page)
    for message in greeting(STREAM, (1280, 720)):
        publisher.send(message)
    publisher.send(status_of(STREAM, 0, "streaming", "first frame", monotonic_ns(), "yolox.onnx"))
    await tab.until("document.readyState === 'complete' && Boolean(document.getElementById('seen'))")
    beating, boxes = True, 2

    async def run() -> None:
        start = monotonic_ns()
        for seq in range(10_000):
            if not beating:
                return
            publisher.send(result(seq, boxes))
            publisher.send(heartbeat_of(STREAM, seq, "streaming", start, start))
            await asyncio.sleep(0.033)

    running = asyncio.ensure_future(run())
    try:
        await tab.until("document.getElementById('seen').textContent === '2'")
        await tab.until("document.getElementById('state').textContent === 'streaming'")
        assert await tab.value("document.getElementById('source').textContent") == "front"
        assert "person 91 % #4" in str(await tab.value("document.getElementById('list').innerText"))
        # the box's left edge, at 100 of 1280 px of the frame, is drawn in its class's colour; its middle is not
        pixel = "[...document.getElementById('view').getContext('2d').getImageData({x}, {y}, 1, 1).data].slice(0, 3)"
        scale = float(str(await tab.value("document.getElementById('view').width"))) / 1280
        edge = await tab.value(pixel.format(x=round(100 * scale), y=round(400 * scale)))
        inside = await tab.value(pixel.format(x=round(250 * scale), y=round(400 * scale)))
        assert max(edge) > 150, edge
        assert max(inside) < 60, inside
        # both run by one clock here: the offset found is its own error
        await tab.until("questions >= 10 && offsetMs !== null")
        assert abs(float(str(await tab.value("offsetMs")))) <= float(str(await tab.value("roundTripMs / 2"))) + 1
        assert int(str(await tab.value("document.getElementById('age').textContent"))) >= 20
        await tab.screenshot(pictures / "wide.png")
        await tab.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        await asyncio.sleep(0.3)
        await tab.screenshot(pictures / "phone.png")
        assert await tab.value("innerWidth === 390 && document.documentElement.scrollWidth <= 390"), (
            "a phone would have to scroll"
        )
        boxes = 0
        await tab.until("document.getElementById('seen').textContent === '0'")
        beating = False
        await running
        await tab.until("document.getElementById('dead').classList.contains('on')")
        assert await tab.value("document.getElementById('state').textContent") == "vision dead"
        await tab.value("learnTime = () => { window.answers = 1; }; 0")
        await tab.value("askForTime()")
        await tab.until("window.answers > 0")  # the publisher answers; that is no sign of life of the loop
        await asyncio.sleep(0.1)
        assert await tab.value("document.getElementById('dead').classList.contains('on')")
        await tab.screenshot(pictures / "dead.png")
        beating = True
        running = asyncio.ensure_future(run())
        await tab.until("!document.getElementById('dead').classList.contains('on')")
        publisher.close()
        await tab.until("document.getElementById('state').textContent === 'vision dead'")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_the_page_shows_boxes_ages_and_dead_vision(devtools, tmp_path):
    """HARRIER_PICTURES names a folder for the screenshots, for people to look at."""
    pictures = Path(os.environ.get("HARRIER_PICTURES") or tmp_path)
    publisher = resolve("publishers", "ws")(parse_uri(f"ws://127.0.0.1:0?token=sesame&page={PAGE}"))
    try:
        asyncio.run(drive(devtools, publisher, pictures))
    finally:
        publisher.close(0)
    assert not publisher.failure


def test_the_page_needs_nothing_else():
    text = PAGE.read_text(encoding="utf-8")
    assert "http://" not in text.replace('startsWith("http")', "")
    assert "https://" not in text
    assert "src=" not in text
    assert "href=" not in text
