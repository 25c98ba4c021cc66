"use strict";
// Charts of lines that are read off with a pointer or the arrow keys, and sliders over the samples.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 34;

function element(parent, name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

function html(parent, name, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  parent.append(made);
  return made;
}

function short(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 10000) return (value / 1000).toFixed(size >= 100000 ? 0 : 1) + " k";
  return size < 0.001 ? value.toExponential(1) : String(+value.toPrecision(4));
}

function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const m of high / low > 30 ? [1] : [1, 2, 5]) found.push(m * 10 ** e);
    return found.filter((t) => t >= low && t <= high);
  }
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high * (1 + 1e-9); n++) found.push(n * step);
  return found;
}

function limits(values, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) return [low / 1.2, high * 1.2];
  if (low >= 0 && low < 0.5 * high) low = 0;
  const room = 0.05 * (high - low) || 0.5;
  return [low === 0 ? 0 : low - room, high + room];
}

class Chart {
  constructor(parent, spec) {
    this.spec = spec;
    this.xs = [...new Set(spec.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
    this.at = this.xs.length - 1;
    const box = html(parent, "section", { className: "chart" });
    this.log = spec.log && Math.min(...spec.series.flatMap((s) => s.points.map((p) => p[1]))) > 0;
    html(box, "h3", { textContent: spec.title + (this.log ? " (logarithmic)" : "") });
    this.place = html(box, "div", { tabIndex: 0 });
    this.place.setAttribute("role", "slider");
    this.place.setAttribute("aria-label", spec.title);
    this.place.setAttribute("aria-valuemin", 0);
    this.place.setAttribute("aria-valuemax", this.xs.length - 1);
    this.legend = html(box, "ul");
    this.lines = [];
    this.values = spec.series.map((series, i) => this.entry(series, i));
    this.where = html(html(this.legend, "li"), "b");
    this.place.addEventListener("keydown", (event) => this.key(event));
    for (const kind of ["pointermove", "pointerdown"])
      this.place.addEventListener(kind, (event) => this.point(event));
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  entry(series, i) {
    const item = html(this.legend, "li");
    for (const kind of ["pointerenter", "pointerleave"])
      item.addEventListener(kind, () => this.single(kind === "pointerenter" ? i : undefined));
    const sample = element(item, "svg", { viewBox: "0 0 22 10", "aria-hidden": "true" });
    element(sample, "path", { d: "M0 5H22", ...this.look(series) });
    item.append(series.label + " ");
    return html(item, "b");
  }

  single(i) {
    this.lines.forEach((line, j) => line.classList.toggle("aside", i !== undefined && i !== j));
  }

  look(series) {
    return { style: `stroke: var(--c${series.colour})`, "stroke-dasharray": series.dashed ? "6 4" : "none" };
  }

  draw() {
    const width = this.place.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    const { spec, log } = this, ys = spec.series.flatMap((s) => s.points.map((p) => p[1]));
    const [low, high] = limits(ys, log);
    const first = this.xs[0], span = this.xs.at(-1) - first || 1;
    const along = (v) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
    this.x = (v) => LEFT + ((v - first) / span) * (width - LEFT - RIGHT);
    const y = (v) => HEIGHT - BOTTOM - along(v) * (HEIGHT - TOP - BOTTOM);
    this.place.replaceChildren();
    const svg = element(this.place, "svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    for (const tick of ticks(low, high, log)) {
      element(svg, "line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) });
      element(svg, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, short(tick));
    }
    for (const tick of ticks(first, first + span, false))
      element(svg, "text", { x: this.x(tick), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, short(tick));
    element(svg, "text", { x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, spec.x);
    this.lines = spec.series.map((series) => {
      const group = element(svg, "g");
      const d = series.points.map(([px, py], i) => `${i ? "L" : "M"}${this.x(px).toFixed(1)} ${y(py).toFixed(1)}`);
      element(group, "path", { d: d.join(""), ...this.look(series) });
      if (series.points.length < 30)
        for (const [px, py] of series.points)
          element(group, "circle", { cx: this.x(px), cy: y(py), r: 2.5, style: `fill: var(--c${series.colour})` });
      const [endX, endY] = series.points.at(-1);
      const place = { x: this.x(endX) - 4, y: y(endY) - 4, "text-anchor": "end" };
      element(group, "text", { class: "mark", ...place, style: `fill: var(--c${series.colour})` }, series.mark);
      return group;
    });
    this.cursor = element(svg, "line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM });
    this.show();
  }

  point(event) {
    const at = event.clientX - this.place.getBoundingClientRect().left;
    const gaps = this.xs.map((v) => Math.abs(this.x(v) - at));
    this.at = gaps.indexOf(Math.min(...gaps));
    this.show();
  }

  key(event) {
    const last = this.xs.length - 1, page = Math.max(1, Math.round(last / 10));
    const to = {
      ArrowLeft: this.at - 1, ArrowDown: this.at - 1, ArrowRight: this.at + 1, ArrowUp: this.at + 1,
      PageDown: this.at - page, PageUp: this.at + page, Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.at = Math.min(Math.max(to, 0), last);
    this.show();
  }

  show() {
    const at = this.xs[this.at], texts = [];
    for (const x of ["x1", "x2"]) this.cursor.setAttribute(x, this.x(at));
    this.spec.series.forEach((series, i) => {
      const ended = at > series.points.at(-1)[0]; // then what it ended with, and where
      const found = series.points.findLast((p) => p[0] <= at);
      const where = ended ? ` (end, ${short(found[0])})` : "";
      this.values[i].textContent = found ? short(found[1]) + where : "-";
      texts.push(`${series.label} ${this.values[i].textContent}`);
    });
    this.where.textContent = `at ${short(at)} ${this.spec.x}`;
    this.place.setAttribute("aria-valuenow", this.at);
    this.place.setAttribute("aria-valuetext", `${short(at)} ${this.spec.x}: ${texts.join(", ")}`);
  }
}

function slide(figure) {
  const pictures = JSON.parse(figure.querySelector("script").textContent);
  const image = figure.querySelector("img"), output = figure.querySelector("output");
  figure.querySelector("input").addEventListener("input", (event) => {
    const picture = pictures[event.target.value];
    image.src = picture.uri;
    image.alt = `samples at ${picture.text}`;
    output.textContent = picture.text;
    event.target.setAttribute("aria-valuetext", picture.text);
  });
}

for (const spec of JSON.parse(document.getElementById("data").textContent))
  new Chart(document.getElementById("charts"), spec);
for (const image of document.querySelectorAll("img.fakes")) slide(image.closest("figure"));
