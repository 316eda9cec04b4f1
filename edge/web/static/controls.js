// Buttons, sliders and keys: each change is asked for, and what it changed is said.
import { get, post } from "./access.js";
import { byId, say } from "./view.js";

const SLIDERS = ["score", "iou"];
const STEP = 0.05;
const held = { score: 0, iou: 0 };       // until when a slider is the hand's, not the run's
const words = { score: "least score", iou: "NMS overlap" };
let newest = null, switchedTo = "", refusal = null;

export function setUpControls(togglePicture) {
  for (const name of SLIDERS) {
    byId(name).addEventListener("input", () => { hold(name); send(name); });
  }
  byId("pause").onclick = () => act(newest?.paused ? "/api/resume" : "/api/pause", {}, (told) => (told.state === "paused" ? "paused" : `goes on: ${told.state}`));
  byId("snapshot").onclick = snapshot;
  byId("record").onclick = () => act("/api/record", { on: !newest?.record?.on }, (told) => (told.record.on ? "recording" : "recording ended"));
  byId("trigger").onclick = () => act("/api/trigger", {}, () => "what was just seen is kept");
  byId("switch").onclick = switchModel;
  byId("theme").onclick = toggleTheme;
  byId("help").onclick = () => byId("shortcuts").showModal();
  byId("shortcuts-close").onclick = () => byId("shortcuts").close();
  byId("shortcuts-on").checked = localStorage.getItem("harrier-keys") !== "off";
  byId("shortcuts-on").onchange = () => localStorage.setItem("harrier-keys", byId("shortcuts-on").checked ? "on" : "off");
  const keys = {
    " ": () => byId("pause").click(), s: () => byId("snapshot").click(), r: () => press("record"), t: () => press("trigger"),
    "[": () => nudge("score", -STEP), "]": () => nudge("score", STEP), ",": () => nudge("iou", -STEP), ".": () => nudge("iou", STEP),
    m: () => byId("choice").focus(), p: togglePicture, d: toggleTheme, "?": () => byId("help").click(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog, [contenteditable]") && event.target.type !== "range";
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !byId("shortcuts-on").checked) return;
    if (event.key === " " && event.target.closest("button")) return;  // a focused button is pressed by it
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

export function mayChange(why) {
  refusal = why;
  byId("may-change").textContent = why;
  enable(true);
  listModels();
}

export function enable(on) {
  for (const one of document.querySelectorAll(".change")) one.disabled = !on || Boolean(refusal);
}

export function showControls(told) {
  newest = told;
  for (const name of SLIDERS) {
    const value = told.thresholds[name];
    if (value === null || performance.now() < held[name]) continue;
    byId(name).value = value;
    byId(`${name}-value`).textContent = value.toFixed(2);
  }
  byId("iou-row").hidden = told.thresholds.iou === null;
  byId("hint").hidden = !told.tracking;
  label("pause", told.paused ? "▶" : "❚❚", told.paused ? "Go on" : "Pause");
  byId("record").hidden = byId("trigger").hidden = told.record === null;
  if (told.record) {
    byId("record").setAttribute("aria-pressed", String(told.record.on));
    label("record", told.record.on ? "■" : "●", told.record.on ? "Stop recording" : "Record");
  }
  showSwitching(told);
}

function label(id, icon, words) {
  const [mark, text] = byId(id).querySelectorAll("i, span");
  if (text.textContent === words) return;
  mark.textContent = icon;
  text.textContent = words;
}

async function act(path, body, words) {
  if (refusal) return say(refusal, true);
  try {
    const told = await post(path, body);
    say(words(told));
    return told;
  } catch (error) {
    say(error.message || "no answer", true);
  }
}

function press(id) {
  if (!byId(id).hidden) byId(id).click();
}

function hold(name) {
  held[name] = performance.now() + 1000;
  byId(`${name}-value`).textContent = Number(byId(name).value).toFixed(2);
}

function nudge(name, by) {
  if (byId(name).disabled || byId("iou-row").hidden && name === "iou") return;
  byId(name).value = (Number(byId(name).value) + by).toFixed(2);
  hold(name);
  send(name);
}

// one request at a time; what the slider says when that one is answered goes next
async function send(name) {
  if (send[name]) { send[name] = "again"; return; }
  send[name] = "sent";
  await act("/api/thresholds", { [name]: Number(byId(name).value) }, (told) => {
    const change = told.changed[name];
    return change ? `${words[name]} ${change.from.toFixed(2)} → ${change.to.toFixed(2)}, from frame ${told.frame} on` : `${words[name]} is ${told.thresholds[name].toFixed(2)}`;
  });
  const again = send[name] === "again";
  send[name] = "";
  if (again) send(name);
}

async function snapshot() {
  const told = await act("/api/snapshot", {}, (kept) => (kept.files ? `frame ${kept.frame} kept in ${kept.files[0]} and .json` : `frame ${kept.frame}: PNG and JSON`));
  for (const path of told?.downloads ?? []) {
    const answer = await get(path);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = `harrier-${path.split("/").pop()}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}

async function listModels() {
  const answer = await get("/api/models");
  if (!answer.ok) return;
  const told = await answer.json(), select = byId("choice");
  const option = (words, value, off = false) => Object.assign(new Option(words, JSON.stringify(value)), { disabled: off });
  const group = (words, options) => {
    const made = Object.assign(document.createElement("optgroup"), { label: words });
    made.append(...options);
    return made;
  };
  select.replaceChildren(group(`Targets of ${told.model}`, [
    ...told.targets.map((t) => option(`${t.name}${t.name === told.target ? " (runs)" : t.here ? "" : " (its file is not here)"}${t.accuracy === null ? "" : `, accuracy ${t.accuracy}`}`, { target: t.name }, !t.here)),
    ...(told.targets.length > 1 ? [option("auto: the best that runs here", { target: "auto" })] : []),
  ]));
  const others = [...told.installed.map((m) => m.name), ...told.catalogue].filter((name) => name !== told.reference);
  if (others.length) select.append(group("Other models", others.map((name) => option(name, { model: name }))));
  select.value = JSON.stringify({ target: told.target });
  select.title = told.notes.join("\n");
}

async function switchModel() {
  await act("/api/model", JSON.parse(byId("choice").value), (told) => `opening ${told.model} ${told.target}`);
}

function showSwitching(told) {
  const now = told.switching, line = byId("switching");
  const what = now ? `${now.model} ${now.target}`.trim() : "";
  line.classList.toggle("wrong", now?.state === "failed");
  const words = !now ? "" : now.state === "opening" ? `… opening ${what}; the present one runs on` : now.state === "failed" ? `✖ ${what} did not open: ${now.why}` : `✔ ${what} runs`;
  if (line.textContent !== words) line.textContent = words;
  const running = `${told.health.model} ${told.target}`;
  if (switchedTo && switchedTo !== running) listModels();
  switchedTo = running;
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("harrier-theme", root.dataset.theme);
}
