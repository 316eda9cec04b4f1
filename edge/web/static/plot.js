// A plot of the last minute on a canvas: the mean as an area, the worst as a line, and a limit where there is one.
// A few moments far above all others do not flatten the rest: they are cut off, and say how high they are.
const SPAN_S = 60, GAP_S = 0.7, GAP_POINTS = 2.5, RARE = 0.97, FAR = 4;

export function plot(canvas, points, nowS, mean, worst, limit) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const style = getComputedStyle(canvas), color = (name) => style.getPropertyValue(name).trim();
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.clearRect(0, 0, width, height);
  draw.font = "11px system-ui, sans-serif";
  const shown = points.filter((p) => p[0] > nowS - SPAN_S);
  const values = shown.map((p) => p[worst]).filter((v) => v !== null).sort((a, b) => a - b);
  const highest = values.at(-1) ?? 0, usual = values[Math.floor(RARE * (values.length - 1))] ?? 0;
  const most = Math.max(1e-3, highest > FAR * usual ? 2 * usual : highest);
  const near = limit && highest > 0.3 * limit;
  const top = nice(1.15 * Math.max(most, near ? limit : 0));
  const left = 38, right = width - 4, bottom = height - 17, high = 6;
  const x = (s) => right - ((nowS - s) / SPAN_S) * (right - left);
  const y = (ms) => bottom - (Math.min(ms, top) / top) * (bottom - high);
  draw.lineWidth = 1;
  draw.lineJoin = "round";
  draw.strokeStyle = color("--line");
  draw.fillStyle = color("--dim");
  draw.textAlign = "right";
  draw.textBaseline = "middle";
  for (const part of [0, 0.5, 1]) {
    draw.beginPath();
    draw.moveTo(left, y(part * top));
    draw.lineTo(right, y(part * top));
    draw.stroke();
    draw.fillText(label(part * top), left - 6, y(part * top));
  }
  draw.textBaseline = "alphabetic";
  for (const [ago, text, align] of [[60, "−60 s", "left"], [30, "−30 s", "center"], [0, "now", "right"]]) {
    draw.textAlign = align;
    draw.fillText(text, x(nowS - ago), height - 3);
  }
  for (const run of runs(shown, mean)) {
    draw.fillStyle = color("--area");
    draw.beginPath();
    draw.moveTo(x(run[0][0]), bottom);
    for (const p of run) draw.lineTo(x(p[0]), y(p[mean]));
    draw.lineTo(x(run[run.length - 1][0]), bottom);
    draw.fill();
    draw.strokeStyle = color("--plot");
    draw.lineWidth = 1.4;
    draw.beginPath();
    for (const p of run) draw.lineTo(x(p[0]), y(p[worst]));
    draw.stroke();
    if (run.length === 1) draw.strokeRect(x(run[0][0]) - 1, y(run[0][worst]) - 1, 2, 2);
  }
  if (highest > top) {
    const peak = x(shown.find((p) => p[worst] === highest)[0]), text = `▲ ${label(highest)}`;
    draw.fillStyle = color("--text");
    draw.textAlign = peak > (left + right) / 2 ? "right" : "left";
    draw.fillText(text, peak + (peak > (left + right) / 2 ? -4 : 4), high + 9);
  }
  if (!limit) return;
  draw.strokeStyle = draw.fillStyle = color("--bad");
  draw.textAlign = "left";
  if (near) {
    draw.setLineDash([6, 4]);
    draw.beginPath();
    draw.moveTo(left, y(limit));
    draw.lineTo(right, y(limit));
    draw.stroke();
    draw.setLineDash([]);
    draw.fillText(`stale from ${limit} ms`, left + 6, y(limit) + (y(limit) > high + 16 ? -4 : 12));
  } else {
    draw.fillText(`↑ stale from ${limit} ms, above this scale`, left + 6, bottom - 6 - (bottom - high) / 2);
  }
}

function runs(points, key) {
  const found = [], known = points.filter((p) => p[key] !== null);
  // a run of one result a second has no gaps, only points that are further apart
  const apart = known.slice(1).map((p, i) => p[0] - known[i][0]).sort((a, b) => a - b);
  const gapS = Math.max(GAP_S, GAP_POINTS * (apart[apart.length >> 1] ?? 0));
  let run = [];
  for (const p of known) {
    if (run.length && p[0] - run[run.length - 1][0] > gapS) { found.push(run); run = []; }
    run.push(p);
  }
  if (run.length) found.push(run);
  return found;
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}

const label = (value) => (value >= 10000 ? `${+(value / 1000).toPrecision(3)} s` : value >= 100 ? value.toFixed(0) : Number(value.toPrecision(2)).toString());
