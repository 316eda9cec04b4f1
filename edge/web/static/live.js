// The page's own clock and connection: what it is told goes to view.js, what it is asked for to controls.js.
import { enable, mayChange, setUpControls, showControls } from "./controls.js";
import { byId, say, showHistory, showState, showPlots, showAge } from "./view.js";
import { askForToken, token } from "./access.js";

const DEAD_MS = 1000;      // the server speaks every 200 ms
const GROWING_MS = 450;    // from then on nobody knows how old the newest result is: it only gets older
const NO_TOKEN = 4401;

const page = { socket: null, alive: true, newest: null, heardMs: 0, sinceMs: Date.now(), roundTripMs: 0, retryMs: 400 };
const picture = { wanted: true, asked: false, shownMs: 0, url: "" };

function connect() {
  const socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[#?].*$/, "").replace(/[^/]*$/, "live"));
  socket.binaryType = "blob";
  page.socket = socket;
  socket.onopen = () => { socket.send(JSON.stringify({ token: token() })); picture.asked = false; };  // none is refused at once
  socket.onmessage = (event) => (typeof event.data === "string" ? hear(JSON.parse(event.data)) : show(event.data));
  socket.onclose = (event) => {
    if (page.socket !== socket) return;
    page.socket = null;
    if (event.code === NO_TOKEN) askForToken(connect);
    else setTimeout(connect, page.retryMs);
    page.retryMs = Math.min(page.retryMs * 1.5, 3000);
  };
}

function hear(told) {
  page.heardMs = performance.now();
  page.retryMs = 400;
  if (told.kind === "pong") {
    page.roundTripMs = performance.now() - told.ping;
  } else if (told.kind === "first") {
    showHistory(told);
    mayChange(told.may_change);
  } else {
    page.newest = told;
    showState(told);
    showControls(told);
    ask();
  }
  live(true);
}

function ask() {
  if (picture.asked || !picture.wanted || document.hidden || page.socket?.readyState !== WebSocket.OPEN) return;
  picture.asked = true;
  page.socket.send('{"picture":true}');
}

async function show(blob) {
  const url = URL.createObjectURL(blob);
  const next = new Image();
  next.src = url;
  try {
    await next.decode();
    const view = byId("picture");
    view.src = url;
    view.hidden = !picture.wanted;
    byId("no-picture").hidden = picture.wanted;
    picture.shownMs = performance.now();
    if (picture.url) URL.revokeObjectURL(picture.url);
    picture.url = url;
  } catch { URL.revokeObjectURL(url); }
  picture.asked = false;
  ask();
}

export function togglePicture() {
  picture.wanted = !picture.wanted;
  byId("picture").hidden = !picture.wanted || !picture.url;
  byId("no-picture").hidden = picture.wanted && Boolean(picture.url);
  byId("no-picture").textContent = picture.wanted ? "waiting for a picture" : "picture off: press p, nothing is drawn or sent";
  say(picture.wanted ? "picture on" : "picture off");
  ask();
}

function live(alive) {
  const dead = document.body.classList.contains("dead");
  document.body.classList.toggle("dead", !alive && page.newest !== null);
  const back = alive && !page.alive;
  page.alive = alive;
  if (back) enable(true);
  if (alive) {
    document.body.classList.remove("waiting");
    byId("dead").hidden = true;
    page.sinceMs = Date.now();
  } else {
    const gone = Math.round((Date.now() - page.sinceMs) / 1000);
    const since = new Date(page.sinceMs).toLocaleTimeString();
    const text = page.newest ? `✖ No connection since ${since} (${gone} s). What is shown below is old.` : `✖ No connection (${gone} s): is harrier run running?`;
    byId("dead").hidden = false;
    if (!dead || byId("dead").dataset.second !== String(gone)) {
      byId("dead").textContent = text;
      byId("dead").dataset.second = String(gone);
    }
    byId("state").className = "state gone";
    byId("state").innerHTML = '<i aria-hidden="true">✖</i> <b>no connection</b>';
    byId("fps").textContent = "–";
    enable(false);
    document.title = "NO CONNECTION – Harrier";
  }
}

// ten times a second, whether anything is heard or not: a number that nobody refreshes must not look fresh
function tick() {
  const silentMs = performance.now() - page.heardMs;
  if (silentMs > DEAD_MS && !byId("token-dialog").open) live(false);
  if (silentMs > 3 * DEAD_MS && page.socket?.readyState === WebSocket.OPEN) page.socket.close();
  showAge(page.newest, silentMs > GROWING_MS ? silentMs : 0, page.roundTripMs / 2);
  const note = byId("picture-note"), sinceMs = performance.now() - picture.shownMs;
  const late = picture.wanted && picture.url !== "" && sinceMs > 1000;
  note.classList.toggle("old", late);
  note.textContent = late ? `⚠ this picture is ${(sinceMs / 1000).toFixed(0)} s old` : "";
  if (picture.wanted && !picture.url) byId("no-picture").textContent = page.newest?.paused ? "paused: a picture comes when the run goes on" : "waiting for a picture";
  byId("link").textContent = page.roundTripMs ? `network ${page.roundTripMs.toFixed(0)} ms` : "";
}

setUpControls(togglePicture);
connect();
setInterval(tick, 100);
setInterval(() => { if (!document.hidden) showPlots(); }, 200);
setInterval(() => { if (page.socket?.readyState === WebSocket.OPEN) page.socket.send(JSON.stringify({ ping: performance.now() })); }, 1000);
document.addEventListener("visibilitychange", ask);
addEventListener("resize", showPlots);
