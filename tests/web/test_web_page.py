"""The page in a real browser: shows, acts, can be had with the keyboard and on a phone, and never lies when dead."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import Browser, chromium, tab_of
from live_runs import LiveRun, see

from edge.config import TrackingSection, WebSection
from edge.geometry_config import RegionSection

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

STATIC = Path(__file__).parents[2] / "edge/web/static"
KEYS = {"[": "BracketLeft", "]": "BracketRight", " ": "Space", "?": "Slash", "s": "KeyS", "p": "KeyP", "d": "KeyD"}
ZONE = RegionSection(name="dock", kind="zone", points=[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


@pytest.fixture
def devtools(tmp_path: Path) -> Iterator[str]:
    with chromium(tmp_path) as address:
        yield address


class LivePage:
    """A tab that shows the page."""

    def __init__(self, tab: Browser) -> None:
        self.tab = tab

    async def open(self, url: str, width: int = 1280) -> None:
        """Show it, and note every address that anything is fetched from."""
        await self.tab.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        await self.tab.call("Page.navigate", url=url)
        await self.tab.until("document.readyState === 'complete' && Boolean(document.getElementById('seen'))")

    async def text(self, name: str) -> str:
        """What an element says."""
        return str(await self.tab.value(f"document.getElementById('{name}').innerText"))

    async def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            await self.tab.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=KEYS[key], text=key if kind == "keyDown" else ""
            )

    async def slide(self, name: str, value: float) -> None:
        """Move a slider, as a hand does."""
        slider = f"document.getElementById('{name}')"
        await self.tab.value(f"{slider}.value = '{value}'; {slider}.dispatchEvent(new Event('input'))")


def browse(devtools: str, walk) -> None:
    async def drive() -> None:
        async with tab_of(devtools) as tab:
            await walk(LivePage(tab))

    asyncio.run(drive())


def test_it_shows_what_the_run_sees_and_acts(devtools, tmp_path):
    """HARRIER_PICTURES names a folder for the screenshots, for people to look at."""
    pictures = Path(os.environ.get("HARRIER_PICTURES") or tmp_path)
    downloads = tmp_path / "downloads"

    async def walk(page: LivePage) -> None:
        tab = page.tab
        await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        await page.open(f"{run.page.address}/")
        await tab.until("document.querySelectorAll('#seen tbody tr').length === 2")
        await tab.until("document.getElementById('picture').naturalWidth === 256")
        assert await tab.value("document.querySelector('#state b').textContent") == "ok"
        assert "cat" in await page.text("seen")
        assert "#1" in await page.text("seen")
        await tab.until("document.querySelectorAll('#waterfall tbody tr').length >= 6")
        assert "waiting for a frame" in await page.text("step-note")
        await tab.until("document.getElementById('age').textContent.endsWith(' ms')")
        assert int((await page.text("age")).split()[0]) < 500
        # the plots have ink of their colour
        ink = "[...document.getElementById('age-plot').getContext('2d').getImageData(0, 0, 600, 200).data]"
        await tab.until(f"{ink}.some((v, i, d) => i % 4 === 3 && v > 200 && d[i - 3] < 60 && d[i - 2] > 90)")
        await page.slide("score", 0.7)
        await tab.until("document.getElementById('said').textContent.includes('least score 0.50 → 0.70, from frame')")
        assert run.pipeline.config.thresholds.score == 0.7
        await page.press("[")
        await tab.until("document.getElementById('score-value').textContent === '0.65'")
        await tab.until("document.getElementById('said').textContent.includes('0.70 → 0.65')")
        await page.press(" ")
        await tab.until("document.querySelector('#state b').textContent === 'paused'")
        assert run.pipeline.state == "paused"
        await page.press(" ")
        await tab.until("document.querySelector('#state b').textContent === 'ok'")
        await page.press("s")
        await tab.until("document.getElementById('said').textContent.includes('PNG and JSON')")
        await page.press("?")
        await tab.until("document.getElementById('shortcuts').open")
        await tab.value("document.getElementById('shortcuts-close').click()")
        await tab.value("document.getElementById('choice').value = JSON.stringify({target: 'second'})")
        await tab.value("document.getElementById('switch').click()")
        await tab.until("document.getElementById('switching').textContent.includes('second runs')")
        await tab.until("document.getElementById('model').textContent === 'pets on second'")
        see(run.pipeline, (32, 32, 0.9))
        run.pipeline.ask(lambda pipeline: pipeline.set_condition("throttled", "the board is hot"))
        await tab.until("document.getElementById('reasons').innerText.includes('the board is hot')")
        assert await tab.value("document.querySelector('#state b').textContent") == "degraded"
        await tab.until("document.getElementById('events').innerText.includes('entered dock')")
        assert await tab.value("document.getElementById('record').hidden")
        before = await tab.value("getComputedStyle(document.body).backgroundColor")
        await tab.screenshot(pictures / "live-light.png")
        await page.press("d")
        assert await tab.value("getComputedStyle(document.body).backgroundColor") != before
        await tab.screenshot(pictures / "live-dark.png")
        fetched = json.loads(
            str(await tab.value("JSON.stringify(performance.getEntriesByType('resource').map(e => e.name))"))
        )
        assert len(fetched) > 5
        assert [url for url in fetched if not url.startswith((run.page.address, f"blob:{run.page.address}"))] == []

    config = {"tracking": TrackingSection(min_hits=1), "region": [ZONE]}
    with LiveRun(tmp_path, **config) as run:
        browse(devtools, walk)
        assert run.page._audience.count <= 1


def test_on_a_phone_nothing_is_wider_than_the_screen(devtools, tmp_path):
    async def walk(page: LivePage) -> None:
        await page.open(f"{run.page.address}/", width=360)
        await page.tab.until("document.getElementById('picture').naturalWidth > 0")
        await page.tab.until("document.querySelectorAll('#waterfall tbody tr').length >= 6")
        assert await page.tab.value("innerWidth") == 360
        assert int(str(await page.tab.value("document.documentElement.scrollWidth"))) <= 360, "one would have to scroll"
        small = "[...document.querySelectorAll('button, select')].filter(b => b.offsetParent && b.offsetHeight < 40)"
        assert await page.tab.value(f"{small}.length") == 0, "too small for a thumb"

    with LiveRun(tmp_path, tracking=TrackingSection(min_hits=1)) as run:
        browse(devtools, walk)


def test_everything_has_a_name_for_who_cannot_see_it(devtools, tmp_path):
    async def walk(page: LivePage) -> None:
        await page.open(f"{run.page.address}/")
        await page.tab.until("document.getElementById('picture').naturalWidth > 0")
        tree = (await page.tab.call("Accessibility.getFullAXTree"))["nodes"]
        roles = ("button", "slider", "combobox", "image", "img", "checkbox", "textbox")
        named = {
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree
            if not node.get("ignored") and node["role"]["value"] in roles
        }
        assert ("slider", "Least score") in {(role, name.split(" 0")[0]) for role, name in named}
        assert {role for role, name in named if not name} == set()
        assert len([role for role, _ in named if role == "button"]) >= 4

    with LiveRun(tmp_path) as run:
        browse(devtools, walk)


def test_a_dead_server_looks_dead_at_once(devtools, tmp_path):
    pictures = Path(os.environ.get("HARRIER_PICTURES") or tmp_path)

    async def walk(page: LivePage) -> None:
        tab = page.tab
        await page.open(f"{run.page.address}/")
        await tab.until("document.querySelector('#state b').textContent === 'ok'")
        await tab.value("window.when = performance.now()")
        await asyncio.to_thread(run.end_page)
        await tab.until("document.body.classList.contains('dead')")
        assert float(str(await tab.value("performance.now() - window.when"))) < 5000
        assert "No connection since" in await page.text("dead")
        assert str(await tab.value("document.title")).startswith("NO CONNECTION")
        assert not any(letter.isdigit() for letter in await page.text("fps"))
        await tab.until("document.getElementById('age-box').classList.contains('old')")
        first = await page.text("age")
        await asyncio.sleep(0.3)
        assert await page.text("age") != first, "a number stands still"
        assert await tab.value("[...document.querySelectorAll('.change')].every((one) => one.disabled)")
        await tab.screenshot(pictures / "live-dead.png")

    with LiveRun(tmp_path) as run:
        browse(devtools, walk)


def test_after_a_silence_everything_can_be_pressed_again(devtools, tmp_path):
    """The connection lasted: a network or a server that was silent for a little over a second."""

    async def walk(page: LivePage) -> None:
        await page.open(f"{run.page.address}/")
        disabled = "[...document.querySelectorAll('.change')].filter((one) => one.disabled).length"
        await page.tab.until("document.querySelector('#state b').textContent === 'ok'")
        run.page._loop.call_soon_threadsafe(time.sleep, 1.8)
        await page.tab.until("document.body.classList.contains('dead')")
        assert await page.tab.value(disabled)
        await page.tab.until("!document.body.classList.contains('dead')")
        await page.tab.until(f"{disabled} === 0")
        await page.tab.until("document.querySelector('#state b').textContent === 'ok'")

    with LiveRun(tmp_path) as run:
        browse(devtools, walk)


def test_a_run_that_stalls_is_stale_and_its_age_grows(devtools, tmp_path):
    async def walk(page: LivePage) -> None:
        await page.open(f"{run.page.address}/")
        await page.tab.until("document.querySelector('#state b').textContent === 'ok'")
        await page.tab.until("document.getElementById('picture').naturalWidth > 0")
        run.frames = False
        await page.tab.until("document.querySelector('#state b').textContent === 'stale'")
        await page.tab.until("document.getElementById('reasons').innerText.includes('the newest result is')")
        await page.tab.until("document.getElementById('picture-note').textContent.includes('this picture is')")
        run.frames = True
        await page.tab.until("document.querySelector('#state b').textContent === 'ok'")

    with LiveRun(tmp_path) as run:
        browse(devtools, walk)


def test_the_token_is_asked_for_or_stands_in_the_address(devtools, tmp_path):
    async def walk(page: LivePage) -> None:
        tab = page.tab
        await page.open(f"{run.page.address}/")
        await tab.until("document.getElementById('token-dialog').open")
        assert await tab.value("document.getElementById('picture').hidden")
        for word in ("wrong", "sesame"):
            await tab.until("document.getElementById('token-dialog').open")
            await tab.value(
                f"document.getElementById('token').value = '{word}'; document.getElementById('token-ok').click()"
            )
        await tab.until("document.getElementById('picture').naturalWidth > 0")
        await page.slide("score", 0.8)
        await tab.until("document.getElementById('said').textContent.includes('0.80')")
        await tab.value("sessionStorage.clear()")
        await tab.call("Page.navigate", url="about:blank")
        await page.open(f"{run.page.address}/#token=sesame")
        await tab.until("document.getElementById('picture').naturalWidth > 0")
        assert "sesame" not in str(await tab.value("location.href")), "it would end up in a screenshot"

    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", token="sesame")) as run:
        browse(devtools, walk)


def test_who_may_change_nothing_is_told_why(devtools, tmp_path):
    async def walk(page: LivePage) -> None:
        await page.open(f"{run.page.address}/")
        await page.tab.until("document.getElementById('may-change').textContent.includes('control = false')")
        assert await page.tab.value("[...document.querySelectorAll('.change')].every((one) => one.disabled)")

    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", control=False)) as run:
        browse(devtools, walk)


def test_the_page_fetches_nothing_from_elsewhere():
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert "http://" not in text, path.name
        assert "https://" not in text, path.name
        assert "innerHTML = `" not in text, f"{path.name}: what a robot says is text, not a page"
