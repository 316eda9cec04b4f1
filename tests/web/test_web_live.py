"""Whoever looks: told the state at an even pace, pictures when asked for, and nobody in another's way."""

import asyncio
import contextlib
import json
import socket
import time

import cv2
import numpy as np
import pytest
from live_runs import LiveRun, until

from edge.config import TrackingSection, WebSection
from edge.geometry_config import RegionSection
from edge.web.live import NO_TOKEN

aiohttp = pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

WITHIN_S = 10.0


class Tab:
    """A WebSocket, as the page has one."""

    def __init__(self, ws) -> None:
        self.ws = ws

    async def next(self, kind: str) -> dict:
        """The next message of a kind; "picture" is a JPEG."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            message = await asyncio.wait_for(self.ws.receive(), WITHIN_S)
            if message.type is aiohttp.WSMsgType.BINARY and kind == "picture":
                return {"jpeg": message.data}
            if message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)["kind"] == kind:
                return json.loads(message.data)
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        raise AssertionError(f"no {kind} came")

    async def ask(self, **asked) -> None:
        await self.ws.send_str(json.dumps(asked))


def visit(run: LiveRun, walk, **options) -> None:
    """Open the page's WebSocket and do something with it."""

    async def go() -> None:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{run.page.address}/live", **options) as ws:
            await walk(Tab(ws))

    asyncio.run(go())


def test_it_is_told_what_was_and_then_what_is(tmp_path):
    async def walk(tab: Tab) -> None:
        first = await tab.next("first")
        assert first["may_change"] == ""
        assert len(first["points"]) >= 1
        times = []
        for _ in range(6):
            told = await tab.next("state")
            assert told["health"]["state"] == "ok"
            assert told["viewers"] == 1
            t_s, age, age_max, work, work_max = told["point"]
            assert 0 < age <= age_max
            assert 0 < work <= work_max
            times.append(t_s)
        assert times == sorted(times)
        assert first["points"][-1][0] <= times[0] + 0.3, "the old and the new lie on one axis of time"
        await tab.ask(ping=12.5)
        assert (await tab.next("pong"))["ping"] == 12.5

    with LiveRun(tmp_path) as run:
        until(lambda: run.pipeline.timings.count > 5, "no results")
        visit(run, walk)
        until(lambda: run.page._audience.count == 0, "it is counted after it has gone")


def test_a_picture_is_sent_for_each_that_is_asked_for(tmp_path):
    async def walk(tab: Tab) -> None:
        await tab.next("first")
        for _ in range(3):
            assert (await tab.next("state"))["kind"] == "state"  # none was asked for, none came
        assert run.page._pictures.drawn == 0
        for _ in range(2):
            await tab.ask(picture=True)
            jpeg = (await tab.next("picture"))["jpeg"]
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (128, 256, 3)
        drawn = run.page._pictures.drawn
        for _ in range(2):
            await tab.next("state")
        assert run.page._pictures.drawn == drawn
        await tab.ask(picture=True)

    with LiveRun(tmp_path) as run:
        visit(run, walk)
        until(lambda: not run.page._pictures.wanted, "a picture is wanted by nobody")


def test_nobody_looks_without_the_token(tmp_path):
    async def refused(tab: Tab) -> None:
        await tab.ask(token="sesam")
        message = await asyncio.wait_for(tab.ws.receive(), WITHIN_S)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert tab.ws.close_code == NO_TOKEN

    async def silent(tab: Tab) -> None:
        message = await asyncio.wait_for(tab.ws.receive(), WITHIN_S)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, NO_TOKEN)

    async def let_in(tab: Tab) -> None:
        await tab.ask(token="sesame")
        assert (await tab.next("state"))["health"]["model"] == "pets"

    async def looks(tab: Tab) -> None:
        assert (await tab.next("state"))["health"]["model"] == "pets"

    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", token="sesame")) as run:
        visit(run, refused)
        visit(run, silent)
        visit(run, let_in)
        visit(run, looks, headers={"Authorization": "Bearer sesame"})


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}])
def test_pages_from_elsewhere_do_not_look(tmp_path, headers):
    async def walk(tab: Tab) -> None:
        raise AssertionError("it was let in")

    with LiveRun(tmp_path) as run, pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        visit(run, walk, headers=headers)


def test_no_more_than_may(tmp_path):
    async def walk(tab: Tab) -> None:
        await tab.next("state")
        status, told = await asyncio.to_thread(run.ask, "/picture.jpg")
        assert (status, "as many look as may" in told["error"]) == (503, True)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            async with aiohttp.ClientSession() as http:
                await http.ws_connect(f"{run.page.address}/live")
        assert (await asyncio.to_thread(run.ask, "/healthz"))[0] == 200

    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", max_viewers=1)) as run:
        visit(run, walk)


def test_one_that_does_not_read_holds_up_nobody(tmp_path):
    async def walk(tab: Tab) -> None:
        with socket.create_connection(("127.0.0.1", run.port)) as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            stalled.sendall(b"GET /live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            for _ in range(10):
                await tab.ask(picture=True)
                await tab.next("picture")
            before = run.pipeline.timings.count
            for _ in range(5):  # the first ones may have waited here already
                await tab.next("state")
            assert run.pipeline.timings.count > before

    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", picture_hz=60)) as run:
        visit(run, walk)


def test_mjpeg_is_picture_after_picture(tmp_path):
    async def go() -> None:
        async with aiohttp.ClientSession() as http, http.get(f"{run.page.address}/live.mjpg") as answer:
            assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            for _ in range(3):
                head = await asyncio.wait_for(answer.content.readuntil(b"\r\n\r\n"), WITHIN_S)
                size = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                jpeg = await asyncio.wait_for(answer.content.readexactly(size + 2), WITHIN_S)
                picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                assert picture.shape == (128, 256, 3)

    with LiveRun(tmp_path) as run:
        asyncio.run(go())
        until(lambda: run.page._audience.count == 0, "it is counted after it has gone")


def test_what_no_page_of_ours_sends_ends_the_connection(tmp_path):
    async def walk(tab: Tab) -> None:
        await tab.next("first")
        await tab.ws.send_str("[1, 2")
        with contextlib.suppress(AssertionError):
            while True:
                await tab.next("state")
        assert tab.ws.closed

    with LiveRun(tmp_path) as run:
        visit(run, walk)


def test_region_events_are_kept_for_who_comes_later(tmp_path):
    zone = RegionSection(name="dock", kind="zone", points=[(0, 0), (1, 0), (1, 1), (0, 1)])

    async def walk(tab: Tab) -> None:
        events = (await tab.next("first"))["events"]
        assert {(event["region"], event["event"], event["label"]) for event in events} == {("dock", "enter", "cat")}
        assert [event["number"] for event in events] == [1, 2]
        assert (await tab.next("state"))["events"] == events

    with LiveRun(tmp_path, region=[zone], tracking=TrackingSection(min_hits=1)) as run:
        until(lambda: len(run.page._pictures.events) == 2, "nobody entered")
        visit(run, walk)


def test_while_no_result_comes_the_age_goes_on_growing(tmp_path):
    async def walk(tab: Tab) -> None:
        await tab.next("state")
        run.frames = False
        ages = []
        for _ in range(8):
            told = await tab.next("state")
            if told["point"][3] is None:  # no step in that time
                fresh = told["health"]["age_ms"] <= told["health"]["ttl_ms"]
                assert fresh == (told["point"][1] is None), "a slow run is not an old one"
                ages += [] if fresh else [told["point"][1]]
        assert len(ages) >= 3
        assert ages == sorted(ages)
        assert ages[-1] - ages[0] > 100 * (len(ages) - 1)

    with LiveRun(tmp_path) as run:
        visit(run, walk)
