"use strict";
// What generations say, under one slider: images of a sprite, texts side by side, points over the truth.

const nearest = (all, wanted) => all.reduce((a, b) => (Math.abs(b - wanted) <= Math.abs(a - wanted) ? b : a), all[0]);

// Each kind gives its element and a function that shows a generation.
const KINDS = {
  images(block) {
    const picture = new Image(), rows = element("div", { class: "images" });
    const lines = block.names.map((name) => ({ name, canvas: element("canvas", { role: "img" }) }));
    rows.append(...lines.map((line) => element("div", {}, element("h3", {}, line.name), line.canvas)));
    let shown = block.generations[0];
    const draw = () => {
      if (!picture.complete || !picture.naturalWidth) return;
      const size = block.height, whole = picture.naturalWidth % size === 0;
      const room = Math.max(1, Math.floor(((lines[0].canvas.parentElement.clientWidth || size) - 160) / size));
      const width = whole ? Math.min(picture.naturalWidth, Math.max(room, 8) * size) : picture.naturalWidth;
      const top = block.generations.indexOf(shown) * size * lines.length;
      lines.forEach(({ name, canvas }, i) => {
        canvas.width = width;
        canvas.height = size;
        canvas.getContext("2d").drawImage(picture, 0, top + i * size, width, size, 0, 0, width, size);
        canvas.setAttribute("aria-label", `${name}: images of generation ${shown}`);
      });
    };
    picture.addEventListener("load", draw);
    picture.src = block.sprite;
    new ResizeObserver(draw).observe(rows);
    return [rows, (t) => { shown = t; draw(); }];
  },

  texts(block) {
    const rows = element("div", { class: "texts" });
    const columns = block.names.map((name) => ({ name, place: element("section") }));
    rows.append(...columns.map((column) => column.place));
    return [rows, (t) => {
      const said = block.texts[block.generations.indexOf(t)];
      columns.forEach(({ name, place }, i) => place.replaceChildren(element("h3", {}, name),
        ...(said[i] ?? []).map((text) => element("pre", {}, text))));
    }];
  },

  points(block, told) {
    const all = parsed(block.csv), truth = block.truth.map(([x, y]) => ({ x, y })), plane = block.dim > 1;
    let shown = block.generations[0];
    const extent = (name) => {
      const values = (truth.length ? truth : all).map((row) => row[name]), low = Math.min(...values), high = Math.max(...values);
      const room = 0.08 * (high - low || 1);
      return [low - room, high + room];
    };
    const spec = structuredClone(plane ? told.specs.points : told.specs.density);
    for (const name of plane ? ["x", "y"] : ["x"]) {
      for (const layer of spec.layer) Object.assign(layer.encoding[name], { title: null, scale: { domain: extent(name), nice: false, zero: false } });
    }
    if (!plane) for (const layer of spec.layer) layer.transform[0].extent = extent("x");
    const charts = block.names.map((name, i) => {
      const rows = () => all.filter((row) => row.generation === shown && row.line === i);
      const middle = (name) => short(rows().reduce((sum, row) => sum + row[name], 0) / rows().length);
      return new Chart({ title: name, spec, lines: () => block.lines, data: () => ({ rows: rows(), truth }),
        said: () => `Generation ${shown}: ${rows().length} points about ${plane ? `(${middle("x")}, ${middle("y")})` : middle("x")}, over ${truth.length} of the truth.` });
    });
    const places = element("div", { class: "grid" }, ...charts.map((chart) => chart.figure));
    return [places, (t) => { shown = t; charts.forEach((chart) => chart.renew()); }];
  },
};

let played = false;

const saying = (told) => {
  if (!told.said.length) return null;
  const stops = [...new Set(told.said.flatMap((block) => block.generations))].sort((a, b) => a - b);
  const slider = element("input", { type: "range", id: "generation", min: 0, max: stops.length - 1, value: 0, "aria-label": "generation" });
  const output = element("output", { for: "generation" });
  const play = element("button", { type: "button", id: "play", "aria-pressed": "false" }, "play");
  const place = element("section", { id: "said" }, element("h2", {}, "what each generation says"),
    element("div", { class: "slider" }, play, slider, output));
  const shows = told.said.map((block) => {
    block.lines = block.names.map((name, i) => {
      const same = told.lines.find((line) => line.fields.setting === name && (!block.run || line.fields.run === block.run))
        ?? told.lines.find((line) => block.run && line.fields.run === block.run) ?? told.lines[0];
      return { ...same, name, number: i };
    });
    const [shown, show] = KINDS[block.kind](block, told);
    if (block.run) place.append(element("h3", {}, block.run));
    if (block.kind === "points") place.append(element("p", { class: "note" },
      `${block.truth.length ? "Grey: held-out rows of the truth.  " : ""}${block.dim > 2 ? `The first two of ${block.dim} numbers of each row.` : ""}`));
    place.append(shown);
    return (t) => show(nearest(block.generations, t));
  });
  const now = () => {
    const t = stops[slider.value];
    output.textContent = `generation ${t}`;
    slider.setAttribute("aria-valuetext", `generation ${t}`);
    shows.forEach((show) => show(t));
  };
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "play"; play.setAttribute("aria-pressed", "false"); };
  const start = (again) => {
    play.textContent = "stop";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      if (!place.isConnected || (!again && Number(slider.value) === stops.length - 1)) return stop();
      slider.value = (Number(slider.value) + 1) % stops.length;
      now();
    }, 700);
  };
  play.addEventListener("click", () => (timer ? stop() : start(true)));
  slider.addEventListener("input", now);
  for (const kind of ["input", "pointerdown", "keydown"]) slider.addEventListener(kind, stop);
  now();
  // By itself it plays once, from the first generation to the last, when it is first seen, for who does not mind motion.
  const first = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    first.disconnect();
    if (!played && stops.length > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches) start(false);
    played = true;
  }, { threshold: 0.2 });
  first.observe(place);
  return place;
};
