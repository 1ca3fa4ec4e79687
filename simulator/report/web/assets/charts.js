"use strict";
// Charts: a figure each, drawn by Vega-Lite once it is in view.  What others named is text or data, never markup or code.

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};

// Expressions are read, not made into code, which the page's policy would not run.
const OPTIONS = { ast: true, actions: false, defaultStyle: false, tooltip: false };

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const DASHES = [[1, 0], [7, 3], [2, 2], [9, 3, 2, 3]];
const short = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "none");

// CSV of numbers alone: a row for each line, an empty cell is no number.
const parsed = (csv) => {
  const [head, ...lines] = csv.trimEnd().split("\n");
  const names = head.split(",");
  return lines.map((line) => {
    const row = {};
    line.split(",").forEach((cell, i) => { row[names[i]] = cell === "" ? null : Number(cell); });
    return row;
  });
};

// CSV with names: quoted, and none that a spreadsheet would take for a formula.
const written = (head, rows) => {
  const cell = (value) => {
    if (typeof value !== "string") return value === null || value === undefined ? "" : String(value);
    const safe = /^[=@\t\r]|^[+-](?![\d.])/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
};

const saved = (name, data, type) => {
  const url = URL.createObjectURL(data instanceof Blob ? data : new Blob([data], { type }));
  element("a", { href: url, download: name.replace(/[^\w.-]+/g, "-") }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};

// Between two colours, "#rrggbb".
const between = (a, b, share) => {
  const part = (colour, i) => parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
  return "#" + [0, 1, 2].map((i) => Math.round(part(a, i) + (part(b, i) - part(a, i)) * share))
    .map((v) => v.toString(16).padStart(2, "0")).join("");
};

const partColours = (n) => [variable("--real"),
  ...Array.from({ length: n - 1 }, (_, i) => between(variable("--young"), variable("--old"), n > 2 ? i / (n - 2) : 0))];
const lineColour = (line) => variable(`--line${line.colour}`);

const SVG = "http://www.w3.org/2000/svg";
const swatch = (line) => {
  const svg = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "line");
  svg.setAttribute("viewBox", "0 0 34 12");
  svg.setAttribute("aria-hidden", "true");
  const looks = { x1: 0, x2: 34, y1: 6, y2: 6, "stroke-width": 4, stroke: `var(--line${line.colour})` };
  looks["stroke-dasharray"] = line.dash ? DASHES[line.dash].join(" ") : "none";
  for (const [name, value] of Object.entries(looks)) path.setAttribute(name, value);
  svg.append(path);
  return svg;
};

const config = () => {
  const [ink, soft, grid, back] = ["--ink", "--soft", "--grid", "--back"].map(variable);
  return {
    aria: false,  // the page says itself what a chart shows; a text for each mark is slow
    background: back,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { labelColor: soft, titleColor: soft, gridColor: grid, domainColor: soft, tickColor: soft, labelFontSize: 11,
      titleFontWeight: "normal", titleFontSize: 11, tickCount: 5 },
    legend: { labelColor: ink, titleColor: ink, labelLimit: 240 },
    title: { color: ink, fontSize: 13, anchor: "start", fontWeight: 600 },
    rule: { color: soft },
    point: { color: variable("--truth") },
    area: { color: variable("--truth") },
    rect: { color: variable("--line0") },
  };
};

// A copy of the chart in the page's colours; with names in place of the numbers of lines where it is exported.
const coloured = (spec, key, scales) => {
  if (Array.isArray(spec)) return spec.map((part) => coloured(part, key, scales));
  if (spec === null || typeof spec !== "object") return spec;
  const made = {};
  for (const [name, part] of Object.entries(spec)) made[name] = coloured(part, name, scales);
  if (made.field in scales && (key === "color" || key === "strokeDash")) {
    const { domain, colours, dashes, legend } = scales[made.field];
    made.scale = { domain, range: key === "color" ? colours : dashes };
    if (legend) made.legend = legend;
  }
  return made;
};

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) entry.target.chart.wanted();
}, { rootMargin: "150px" });
let queue = Promise.resolve();

class Chart {
  // `of`: title, spec, data() -> {name: rows}, said() -> text, csv() -> [head, rows], lines() or parts() that colours are of.
  constructor(of) {
    this.of = of;
    this.view = null;
    this.plot = element("div", { class: "plot", role: "img", tabindex: 0 });
    this.reading = element("output", { class: "reading", hidden: "" });
    this.rule = element("div", { class: "rule", hidden: "" });
    const save = (kind, work) => element("button", { type: "button", click: work, "aria-label": `${of.title} as ${kind}` }, kind);
    const buttons = element("span", {}, ...(of.csv ? [save("CSV", () => saved(`${of.title}.csv`, written(...of.csv()), "text/csv"))] : []),
      save("SVG", () => this.export("svg")), save("PNG", () => this.export("png")));
    const heading = element("h3", {}, of.title);
    this.figure = element("figure", { class: "chart" }, element("figcaption", {}, heading, buttons), this.plot, this.rule, this.reading);
    this.figure.chart = this;
    this.say();
    if (of.read) this.listen();
    seen.observe(this.figure);
  }

  say() { this.plot.setAttribute("aria-label", `${this.of.title}. ${this.of.said()}`); }

  scales(named) {
    const lines = this.of.lines?.(), parts = this.of.parts?.(), found = {};
    if (lines) {
      const shown = lines.filter((line) => !named || !line.hidden);
      const legend = named && { title: null, orient: "bottom", columns: 2, symbolType: "stroke", symbolOpacity: 1, symbolStrokeWidth: 3, labelLimit: 300 };
      found.line = { domain: shown.map((line) => (named ? line.name : line.number)), colours: shown.map(lineColour),
        dashes: shown.map((line) => DASHES[line.dash]), legend };
    }
    if (parts) {
      const legend = named && { title: null, orient: "bottom", columns: 3 };
      found.part = { domain: parts.map((part, i) => (named ? part : i)), colours: partColours(parts.length), legend };
    }
    const sure = ["better", "unsure", "worse"];
    found.sure = { domain: sure, colours: [variable("--line3"), variable("--soft"), variable("--line0")] };
    return found;
  }

  spec(named) {
    const { lines, parts } = this.of;
    const copy = (row) => ({ ...row, ...(named && lines && "line" in row ? { line: lines()[row.line].name } : {}),
      ...(named && parts ? { part: parts()[row.part] } : {}) });
    const datasets = Object.fromEntries(Object.entries(this.of.data()).map(([name, rows]) => [name, rows.map(copy)]));
    return { ...coloured(this.of.spec, "", this.scales(named)), datasets, autosize: { type: "fit-x", contains: "padding" } };
  }

  wanted() {
    seen.unobserve(this.figure);
    queue = queue.then(() => this.draw()).catch((error) => console.error(error));
  }

  async draw() {
    const spec = this.spec(false);
    delete spec.title;  // the figure's caption is it
    this.made?.finalize();
    this.made = await vegaEmbed(this.plot, spec, { ...OPTIONS, renderer: "canvas", config: config() });
    this.view = this.made.view;
    this.plot.setAttribute("role", "img");
    this.say();
    this.figure.dataset.drawn = "";
    performance.mark("drawn");
  }

  // Shows what the data are now.
  async renew() {
    this.say();
    if (!this.view) return;
    for (const [name, rows] of Object.entries(this.of.data())) this.view.data(name, rows.map((row) => ({ ...row })));
    await this.view.runAsync();
  }

  // On white, whatever the page is on.
  async export(kind) {
    document.documentElement.dataset.paper = "";
    const spec = { title: this.of.title, ...this.spec(true), width: 420, autosize: "pad" }, looks = config();
    delete document.documentElement.dataset.paper;
    const place = element("div"), options = { ...OPTIONS, renderer: "svg", config: looks };
    const made = await vegaEmbed(place, spec, options);
    if (kind === "svg") saved(`${this.of.title}.svg`, await made.view.toSVG(), "image/svg+xml");
    else (await made.view.toCanvas(2)).toBlob((blob) => saved(`${this.of.title}.png`, blob, "image/png"));
    made.finalize();
  }

  // Reading values: at the generation nearest to the pointer, or by the arrows of the keyboard.
  listen() {
    const at = () => this.of.generations();
    this.plot.addEventListener("pointermove", (event) => {
      if (!this.view) return;
      const x = event.clientX - this.plot.getBoundingClientRect().left - this.view.origin()[0] - this.view.padding().left;
      const wanted = this.view.scale("x").invert(x);
      this.show(at().reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a), at()[0]));
    });
    this.plot.addEventListener("pointerleave", () => this.show(null));
    this.plot.addEventListener("blur", () => this.show(null));
    this.plot.addEventListener("keydown", (event) => {
      const all = at(), now = all.indexOf(this.generation);
      const next = { ArrowRight: Math.min(now + 1, all.length - 1), ArrowLeft: Math.max(now - 1, 0), Home: 0, End: all.length - 1 }[event.key];
      if (event.key === "Escape") this.show(null);
      if (next === undefined || !this.view) return;
      event.preventDefault();
      this.show(all[next]);
    });
  }

  show(generation) {
    this.generation = generation ?? undefined;
    this.reading.hidden = this.rule.hidden = generation === null || generation === undefined;
    if (this.reading.hidden) return;
    const lines = this.of.read(generation).map(([mark, name, value]) => element("div", {}, mark, name, element("b", {}, value)));
    this.reading.replaceChildren(`generation ${generation}`, ...lines);
    const left = this.plot.offsetLeft + this.view.origin()[0] + this.view.padding().left + this.view.scale("x")(generation);
    const top = this.plot.offsetTop + this.view.origin()[1] + this.view.padding().top;
    Object.assign(this.rule.style, { left: `${left}px`, top: `${top}px`, height: `${this.of.spec.height}px` });
    this.reading.style.top = `${this.plot.offsetTop + this.plot.offsetHeight}px`;
  }
}
