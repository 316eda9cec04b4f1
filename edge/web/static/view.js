// What is told, shown.
import { plot } from "./plot.js";

export const byId = (id) => document.getElementById(id);

const ICONS = { starting: "…", ok: "✔", degraded: "▲", stale: "✖", stuck: "■", paused: "❚❚" };
const WORDS = { ok: "ok", degraded: "degraded", stale: "stale", stuck: "stuck", starting: "starting", paused: "paused" };
const T_S = 0, AGE = 1, AGE_MAX = 2, WORK = 3, WORK_MAX = 4;

let points = [], newestS = 0, heardMs = 0, ttlMs = 0, eventNumber = 0, describedMs = 0;

const text = (id, value) => { const element = byId(id); if (element.textContent !== value) element.textContent = value; };
const ms = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

export function say(what, wrong = false) {
  const said = byId("said");
  said.textContent = what;
  said.classList.toggle("wrong", wrong);
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, wrong ? 8000 : 3500);
}

function element(tag, className, content = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = content;
  return made;
}

function row(tag, cells) {
  const made = document.createElement("tr");
  cells.forEach((cell, i) => {
    const one = document.createElement(i === 0 ? "th" : tag);
    if (i === 0) one.scope = "row";
    one.append(cell);
    made.append(one);
  });
  return made;
}

export function showHistory(told) {
  points = told.points;
  newestS = points.length ? points[points.length - 1][T_S] : 0;
  text("software", told.software);
  byId("events").replaceChildren();
  eventNumber = 0;
  showEvents(told.events);
}

export function showState(told) {
  const { health } = told;
  heardMs = performance.now();
  newestS = told.point[T_S];
  ttlMs = health.ttl_ms;
  points.push(told.point);
  while (points.length && points[0][T_S] < newestS - 61) points.shift();
  showHead(told, health);
  showReasons(health);
  showWaterfall(told.waterfall);
  showSeen(told.result, told.thresholds.score);
  showParts(told, health);
  showMachine(told, health);
  showEvents(told.events);
}

function showHead(told, health) {
  const place = health.source.id.replace(/[?].*/, "");
  text("source", place.replace(/[/:,@]+/g, "$&\u200b"));  // where a long one may be broken
  byId("source").title = health.source.id;
  text("model", `${health.model} on ${told.target}`);
  const shown = told.paused ? "paused" : health.state;
  const badge = byId("state");
  if (badge.dataset.shown !== shown || badge.classList.contains("gone")) {
    badge.dataset.shown = shown;
    badge.className = `state ${told.paused ? "" : health.state}`;
    badge.replaceChildren(element("i", "", ICONS[shown]), " ", element("b", "", WORDS[shown]));
    badge.firstChild.setAttribute("aria-hidden", "true");
  }
  text("fps", told.paused ? "0" : health.fps.toFixed(1));
  document.title = `${WORDS[shown]} · ${health.age_ms === null ? "–" : `${Math.round(health.age_ms)} ms`} · ${place} – Harrier`;
}

export function showAge(newest, silentMs, halfTripMs) {
  const age = newest?.health.age_ms;
  const known = age !== null && age !== undefined;
  const nowMs = known ? age + silentMs + halfTripMs : 0;
  const old = known && nowMs > ttlMs;
  text("age", known ? (nowMs >= 10000 ? `${(nowMs / 1000).toFixed(0)} s` : `${nowMs.toFixed(0)} ms`) : "–");
  byId("age-box").classList.toggle("old", old);
  text("age-note", old ? `, over ${ttlMs} ms` : known ? `, stale from ${ttlMs} ms` : "");
}

function showReasons(health) {
  const list = byId("reasons");
  list.classList.toggle("bad", health.state === "stale" || health.state === "stuck");
  const told = health.reasons.join("\n").replace(/\d+(\.\d+)? (s|ms)/g, ""); // times that grow are no news
  const first = list.firstChild;
  if (list.dataset.told === told && first) first.textContent = health.reasons[0];
  else list.replaceChildren(...health.reasons.map((reason) => element("li", "", reason)));
  list.dataset.told = told;
}

function showWaterfall(told) {
  if (!told.step) return;
  const body = byId("waterfall").tBodies[0], rows = [];
  const work = told.work.mean_ms || 1e-6;
  let at = 0;
  for (const stage of told.stages) {
    if (stage.stage === "wait") continue;
    const track = element("div", "track"), bar = element("i", `s-${stage.stage}`), reach = element("b");
    bar.style.left = `${(100 * at) / work}%`;
    bar.style.width = `${(100 * stage.mean_ms) / work}%`;
    reach.style.left = `${Math.min(100, (100 * (at + stage.mean_ms)) / work)}%`;
    reach.style.width = `${Math.max(0, Math.min(100 - (100 * (at + stage.mean_ms)) / work, (100 * (stage.p99_ms - stage.mean_ms)) / work))}%`;
    track.append(reach, bar);
    at += stage.mean_ms;
    rows.push(row("td", [stage.stage, track, ms(stage.mean_ms), ms(stage.p50_ms), ms(stage.p99_ms)]));
  }
  body.replaceChildren(...rows);
  byId("waterfall").tFoot.replaceChildren(row("td", ["work", "", ms(told.work.mean_ms), ms(told.work.p50_ms), ms(told.work.p99_ms)]));
  const wait = told.step.mean_ms - told.work.mean_ms;
  byId("stacked").replaceChildren(...told.stages.map((stage) => {
    const part = element("span", stage.stage === "wait" ? "wait" : `s-${stage.stage}`);
    part.style.flex = `${stage.mean_ms} 0 0`;
    return part;
  }));
  text("step-note", `${ms(told.step.mean_ms)} ms = ${ms(wait)} waiting for a frame + ${ms(told.work.mean_ms)} work; mean of ${told.steps} steps`);
}

const COLUMNS = [
  ["track", (d) => (d.track_id === undefined ? null : `#${d.track_id}`)],
  ["bearing", (d) => (d.bearing_rad ? bearing(d.bearing_rad[0]) : null)],
  ["range", (d) => (d.range_m === undefined ? null : `${d.range_m.toFixed(2)} ± ${(d.range_sigma_m ?? 0).toFixed(2)} m`)],
  ["moves", (d) => (d.velocity_px_s ? `${Math.hypot(...d.velocity_px_s).toFixed(0)} px/s ${arrow(d.velocity_px_s)}` : null)],
  ["unseen", (d) => (d.unseen_ms ? `${d.unseen_ms.toFixed(0)} ms` : null)],
  ["box, px", (d) => (d.box ? `${d.box.map((v) => v.toFixed(0)).join(", ")}` : null)],
];

const bearing = (rad) => `${Math.abs((rad * 180) / Math.PI).toFixed(1)}° ${rad >= 0 ? "right" : "left"}`;

function arrow([right, down]) {
  if (Math.hypot(right, down) < 1) return "·";
  return "→↘↓↙←↖↑↗"[(Math.round(Math.atan2(down, right) / (Math.PI / 4)) + 8) % 8];
}

// as edge/draw.py colours the class in the picture
const colour = (classId) => `hsl(${2 * ((classId * 67 + 100) % 180)} 78% 55%)`;

function showSeen(result, least) {
  const found = result ? result.detections ?? result.classes : [];
  text("seen-count", result ? `frame ${result.seq}` : "");
  text("seen-note", result ? `${found.length} seen on frame ${result.seq}` : "");
  const used = COLUMNS.filter(([, cell]) => found.some((d) => cell(d) !== null));
  const head = byId("seen").tHead, body = byId("seen").tBodies[0];
  if (!found.length) {
    head.replaceChildren();
    body.replaceChildren(row("td", [result ? `nothing that scores ${least.toFixed(2)} or more` : "no result yet"]));
    return;
  }
  const titles = document.createElement("tr");
  for (const title of ["what", "score", ...used.map(([name]) => name)]) {
    const cell = element("th", "", title);
    cell.scope = "col";
    titles.append(cell);
  }
  head.replaceChildren(titles);
  body.replaceChildren(...found.map((d) => {
    const name = element("span"), swatch = element("i", "swatch"), score = element("span"), meter = element("span", "meter");
    swatch.style.background = colour(d.class_id);
    name.append(swatch, d.label);
    const level = element("i");
    level.style.width = `${100 * d.score}%`;
    meter.append(level);
    score.append(meter, d.score.toFixed(2));
    return row("td", [name, score, ...used.map(([, cell]) => cell(d) ?? "")]);
  }));
}

function facts(id, rows) {
  const list = byId(id), told = JSON.stringify(rows);
  if (list.dataset.told === told) return;
  list.dataset.told = told;
  list.replaceChildren(...rows.flatMap(([name, value, mark]) => {
    const data = element("dd", "", value);
    if (mark) data.prepend(element("span", `mark ${mark}`, { fine: "✔ ", poor: "▲ ", wrong: "✖ " }[mark]));
    return [element("dt", "", name), data];
  }));
}

function showParts(told, health) {
  const { source } = health;
  const streams = source.state === "streaming";
  const rows = [["source", `${source.state}, ${source.captured} frames, ${source.dropped} dropped, ${source.reconnects} reconnects`, streams ? "fine" : "poor"]];
  for (const engine of health.engines) {
    const mark = engine.state === "running" ? "fine" : engine.state === "ready" ? "" : "poor";
    const failed = engine.failures ? `, ${engine.failures} failures` : "";
    rows.push([`engine ${engine.target}`, `${engine.state}, ${engine.frames} frames${failed}`, mark]);
  }
  for (const one of health.publishers) {
    rows.push(["publisher", `${one.address}: ${one.sent} sent, ${one.dropped} dropped${one.failure ? `; ${one.failure}` : ""}`, one.failure ? "wrong" : "fine"]);
  }
  if (told.record) rows.push(["recording", told.record.on ? `to ${told.record.files.join(", ") || "the disk"}` : "off", told.record.on ? "fine" : ""]);
  rows.push(["pages open", String(told.viewers), ""]);
  if (health.stuck) rows.push(["stages that hung", String(health.stuck), "poor"]);
  facts("parts", rows);
}

function showMachine(told, health) {
  const rows = Object.entries(health.temperatures_c).map(([sensor, value]) => [sensor, `${value.toFixed(1)} °C`, ""]);
  if (told.conditions.throttled) rows.unshift(["throttled", told.conditions.throttled, "poor"]);
  if (told.power) rows.push(["power", `${told.power[0].toFixed(1)} W, ${told.power[1]}`, ""]);
  rows.push(["memory", `${health.memory_mb.toFixed(0)} MB`, ""]);
  const s = Math.floor(health.uptime_s), pad = (n) => String(n).padStart(2, "0");
  rows.push(["up for", `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60)}:${pad(s % 60)} h, ${health.frames} results`, ""]);
  facts("machine", rows);
}

function showEvents(events) {
  const list = byId("events");
  for (const event of events) {
    if (event.number <= eventNumber) continue;
    eventNumber = event.number;
    const item = element("li"), time = element("time", "", new Date(event.t_ns / 1e6).toLocaleTimeString());
    const verb = { enter: "entered", leave: event.lost ? "was last seen in" : "left", cross: "crossed", dwell: "stays in" }[event.event];
    const way = event.direction ? `, ${event.direction.replaceAll("_", " ")}` : "";
    const stayed = event.dwell_ms ? ` after ${(event.dwell_ms / 1000).toFixed(1)} s` : "";
    const inside = event.inside === null ? "" : ` (${event.inside} inside)`;
    item.append(time, `${event.label} #${event.track_id} ${verb} ${event.region}${way}${stayed}${inside}`);
    list.prepend(item);
    while (list.childElementCount > 50) list.lastChild.remove();
  }
  byId("events-card").hidden = !list.childElementCount;
}

export function showPlots() {
  const nowS = newestS + (heardMs ? (performance.now() - heardMs) / 1000 : 0);
  plot(byId("age-plot"), points, nowS, AGE, AGE_MAX, ttlMs);
  plot(byId("work-plot"), points, nowS, WORK, WORK_MAX, 0);
  if (performance.now() - describedMs < 2000) return;
  describedMs = performance.now();
  for (const [id, mean, worst] of [["age", AGE, AGE_MAX], ["work", WORK, WORK_MAX]]) {
    const some = points.filter((p) => p[mean] !== null);
    const average = some.reduce((sum, p) => sum + p[mean], 0) / (some.length || 1);
    const most = some.reduce((high, p) => Math.max(high, p[worst]), 0);
    const told = some.length ? `mean ${ms(average)}, worst ${ms(most)} ms` : "";
    text(`${id}-legend`, told);
    byId(`${id}-plot`).setAttribute("aria-label", `${id} over the last minute: ${told}`);
  }
}
