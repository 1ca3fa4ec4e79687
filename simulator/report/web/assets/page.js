"use strict";
// The page: measures in groups, a legend for all of them, a search, tables, and what is new while a run goes on.

const place = (id) => document.getElementById(id);
let told, rows, charts;

const visible = () => told.lines.filter((line) => !line.hidden);

const measureChart = (measure, i) => {
  const of = () => rows.byMeasure.get(i) ?? [];
  const shown = () => of().filter((row) => !told.lines[row.line].hidden);
  const spec = structuredClone(told.specs.curve);
  const levels = told.levels.filter(([m]) => m === i).map(([, value, run]) => ({ value, run }));
  const onsets = () => told.onsets.filter((one) => one.measure === i && !told.lines[one.line].hidden);
  // Those of lines that are hidden lie unseen on another, since a layer without a row has no extent.
  const marks = () => told.onsets.filter((one) => one.measure === i)
    .map((one) => (told.lines[one.line].hidden ? { ...one, ...shown()[0], size: 0 } : { ...one, size: 110 }));
  const has = { band: measure.band, theory: measure.theory, levels: levels.length > 0, onsets: told.onsets.some((one) => one.measure === i) };
  spec.layer = spec.layer.filter((layer) => has[layer.name] ?? true);
  if (measure.log) for (const layer of spec.layer) Object.assign(layer.encoding.y, { scale: { type: "log" }, axis: { tickCount: 3 } });
  const ends = (line) => {
    const found = of().filter((row) => row.line === line.number && row.mean !== null);
    return found.length ? `${line.name} from ${short(found[0].mean)} to ${short(found[found.length - 1].mean)}` : `${line.name} has no value`;
  };
  const real = levels.map(({ value, run }) => `  ${run ? `${run}, r` : "R"}eal rows against held-out real rows: ${short(value)}.`).join("");
  const began = (one) => `  ${told.lines[one.line].name}: ${one.definition} from generation ${one.generation} on.`;
  const value = (row) => short(row.mean) + (row.low === null ? "" : ` ± ${short((row.high - row.low) / 2)}`)
    + (row.theory === null ? "" : `, theory ${short(row.theory)}`);
  const chart = new Chart({
    title: measure.title, spec, lines: () => told.lines, data: () => ({ rows: shown(), ...(has.levels ? { levels } : {}), ...(has.onsets ? { onsets: marks() } : {}) }),
    said: () => `Generations 0 to ${told.generations - 1}: ${visible().map(ends).join("; ")}.${real}${onsets().map(began).join("")}`,
    csv: () => tidy(shown()),
    generations: () => [...new Set(of().map((row) => row.generation))].sort((a, b) => a - b),
    read: (t) => shown().filter((row) => row.generation === t).sort((a, b) => b.mean - a.mean)
      .map((row) => [swatch(told.lines[row.line]), told.lines[row.line].name, value(row)])
      .concat(onsets().filter((one) => one.generation === t).map((one) => [swatch(told.lines[one.line]), "from here on", one.definition])),
  });
  chart.figure.dataset.search = `${measure.name} ${measure.title}`.toLowerCase();
  return chart;
};

const tidy = (some) => {
  const names = Object.keys(told.lines[0]?.fields ?? {});
  return [["measure", ...names, "generation", "mean", "low", "high", "theory"],
    some.map((row) => [told.measures[row.measure].name, ...names.map((name) => told.lines[row.line].fields[name]),
      row.generation, row.mean, row.low, row.high, row.theory])];
};

const dietCharts = () => {
  const shares = parsed(told.diet.csv), parts = told.diet.parts;
  return told.lines.map((line) => {
    const of = shares.filter((row) => row.line === line.number);
    const at = (t) => of.filter((row) => row.generation === t && row.share > 0);
    const real = of.filter((row) => row.part === 0);
    const ends = real.length ? `Share of real rows from ${short(real[0].share)} to ${short(real[real.length - 1].share)}.` : "Nothing was eaten.";
    const box = (i) => {
      const mark = element("i");
      mark.style.background = partColours(parts.length)[i];
      return mark;
    };
    return new Chart({ title: line.name, spec: told.specs.diet, parts: () => parts, data: () => ({ rows: of }), said: () => ends,
      csv: () => [["generation", "origin", "share"], of.map((row) => [row.generation, parts[row.part], row.share])],
      generations: () => [...new Set(of.map((row) => row.generation))],
      read: (t) => at(t).map((row) => [box(row.part), parts[row.part], short(row.share)]) });
  });
};

const grid = (made, id) => element("div", { class: "grid", ...(id ? { id } : {}) }, ...made.map((chart) => chart.figure));
const folded = (title, open, ...inside) => element("details", open ? { open: "" } : {}, element("summary", {}, title), ...inside);

const tableOf = ({ title, notes, head, rows: lines }, open) => {
  const number = head.map((_, i) => lines.every((line) => /^([-+\d.]*(e[-+]\d+)?|not|nan|-?inf)$/.test(line[i])) && lines.some((line) => line[i]));
  const cells = (kind, line) => line.map((text, i) => element(kind, { class: number[i] ? null : "text", scope: kind === "th" ? "col" : null }, text));
  const body = element("table", {}, element("thead", {}, element("tr", {}, ...cells("th", head))),
    element("tbody", {}, ...lines.map((line) => element("tr", {}, ...cells("td", line)))));
  return folded(title, open, ...(head.length ? [element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": title }, body)] : []),
    ...notes.map((note) => element("p", { class: "note" }, note)));
};

const legend = () => {
  const buttons = told.lines.map((line) => element("button", { type: "button", "aria-pressed": "true", click: () => chosen(line) },
    swatch(line), line.control ? `${line.name} (control)` : line.name));
  place("legend").hidden = place("tools").hidden = !buttons.length;
  place("legend").replaceChildren(...(buttons.length > 1 ? buttons : []), ...(buttons.length > 1 ? [element("button", { type: "button", id: "all", click: () => choose(() => true) }, "all")] : []));
  const names = Object.keys(told.lines[0]?.fields ?? {});
  place("fields").replaceChildren(...(names.length < 2 ? [] : names.map((name) => {
    const values = [...new Set(told.lines.map((line) => line.fields[name]))];
    const options = values.map((value) => element("option", { value }, value));
    return element("label", {}, `${name} `, element("select", { "data-field": name, change: filtered },
      element("option", { value: "", "data-all": "" }, "all"), ...options));
  })));
};

const filtered = () => {
  const asked = [...document.querySelectorAll("#fields select")].filter((one) => !("all" in one.selectedOptions[0].dataset));
  choose((line) => asked.every((one) => line.fields[one.dataset.field] === one.value));
};

// Where all are shown a click shows one alone; then it adds and takes away; none is all.
const chosen = (line) => {
  const all = told.lines.every((one) => !one.hidden), last = visible().length === 1 && !line.hidden;
  choose((one) => (all ? one === line : last ? true : one === line ? line.hidden : !one.hidden));
};

const choose = (shown) => {
  const now = told.lines.map(shown);
  told.lines.forEach((line, i) => { line.hidden = !now[i]; });
  [...place("legend").querySelectorAll("[aria-pressed]")].forEach((button, i) => button.setAttribute("aria-pressed", String(now[i])));
  for (const chart of charts) chart.renew();
};

const searched = () => {
  const words = place("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const chart of charts) chart.figure.hidden = !words.every((word) => chart.figure.dataset.search.includes(word));
  for (const group of document.querySelectorAll("#curves > [data-group]")) {
    const found = group.querySelector("figure:not([hidden])") !== null;
    group.hidden = !found;
    if (group.tagName === "DETAILS") group.open = words.length ? found : false;
  }
};

const take = (fresh) => {
  told = fresh;
  told.lines.forEach((line, i) => { line.number = i; line.hidden = false; });
  rows = parsed(told.csv);
  rows.byMeasure = Map.groupBy ? Map.groupBy(rows, (row) => row.measure) : rows.reduce((map, row) => map.set(row.measure, [...(map.get(row.measure) ?? []), row]), new Map());
};

const keyed = (parts) => element("div", { class: "keys" }, ...parts.map((part, i) => {
  const mark = element("i");
  mark.style.background = partColours(parts.length)[i];
  return element("span", {}, mark, part);
}));

const resulting = (one) => {
  const made = new Chart({ title: one.title, spec: one.spec, data: () => one.data, said: () => one.said });
  const beside = grid([made]);
  if (one.table) beside.append(tableOf(one.table, true));
  return beside;
};

// What is beneath the curves, made anew with every change.
const beneath = () => {
  const { diet, tables, theory, results, pictures, configurations, command } = told;
  place("beneath").replaceChildren(...[
    saying(told),
    diet && folded("what each generation ate", false, keyed(diet.parts), grid(dietCharts(), "diets")),
    ...tables.map((one, i) => tableOf(one, i < tables.length - 1)),
    theory.length ? folded("theory", false, ...theory.map((line) => element("p", {}, line))) : null,
    results.length ? folded("league and plans", true, ...results.map(resulting)) : null,
    pictures.length ? folded("perplexities of single samples", false, ...pictures.map((src, i) => element("img", { src, alt: `histograms of perplexity, ${i + 1}`, loading: "lazy" }))) : null,
    ...configurations.map((one) => folded(`configuration of ${one.title}`, false, element("pre", {}, one.text))),
    command ? element("p", { class: "note" }, "made by ", element("code", { id: "command" }, command)) : null,
  ].filter(Boolean));
};

const build = () => {
  place("title").textContent = document.title = told.title;
  legend();
  charts = told.measures.map(measureChart);
  const of = (wanted) => charts.filter((_, i) => wanted(told.measures[i]));
  const first = grid(of((one) => one.first), "first");
  first.dataset.group = "";
  const groups = [...new Set(told.measures.filter((one) => !one.first).map((one) => one.group))];
  const more = groups.map((name) => {
    const inside = of((one) => !one.first && one.group === name), group = folded(`${name} (${inside.length} more)`, false, grid(inside));
    group.dataset.group = name;
    return group;
  });
  const kinds = ["Point at a panel, or move to it and use the arrows, to read values."];
  if (told.measures.some((one) => one.band)) kinds.unshift("Bands: two standard errors of the mean over replicates.");
  if (told.measures.some((one) => one.theory)) kinds.unshift("Thick dashes: theory.");
  if (told.onsets.length) kinds.unshift("Triangles: from there on a definition of collapse holds, as the table below says.");
  if (told.levels.length) kinds.unshift("Dotted: real rows against held-out real rows.");
  if (told.left) kinds.push(`Of many generations ${told.left} are not drawn.`);
  place("kinds").textContent = told.lines.length ? kinds.join("  ") : "";
  place("curves").replaceChildren(first, ...more);
  beneath();
};

// While a run goes on: the same lines and measures get their new values, anything else a new page.
const renew = (fresh) => {
  const shape = (of) => JSON.stringify([of.lines.map((line) => line.name), of.measures.map((one) => [one.name, one.log, one.band, one.theory]), of.levels.length, of.onsets.length]);
  const same = shape(told) === shape(fresh), before = told;
  const titles = () => [...document.querySelectorAll("details")].map((one) => [one, one.firstChild.textContent]);
  const open = new Map(titles().map(([one, title]) => [title, one.open])), slider = place("generation");
  const at = slider && slider.value !== slider.max ? Number(slider.value) : Infinity;
  take(fresh);
  if (same) {
    told.lines.forEach((line, i) => { line.hidden = before.lines[i].hidden; });
    for (const chart of charts) chart.renew();
    beneath();
  } else build();
  for (const [one, title] of titles()) one.open = open.get(title) ?? one.open;
  if (at > 0 && place("generation")) {
    place("generation").value = Math.min(at, place("generation").max);
    place("generation").dispatchEvent(new Event("input"));
  }
};

const follow = async (mark) => {
  let next = mark;
  try {
    const answer = await fetch("told.json", { headers: mark ? { "If-None-Match": mark } : {} });
    next = answer.headers.get("ETag");
    if (answer.status === 200) renew(await answer.json());
    place("state").textContent = `live: ${told.state ?? ""}`;
  } catch {
    place("state").textContent = "no longer live: the command that served this page has ended";
  }
  setTimeout(follow, 2000, next);
};

place("search").addEventListener("input", searched);
place("csv").addEventListener("click", () => saved(`${told.title}.csv`, written(...tidy(rows)), "text/csv"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) if (chart.view) chart.wanted();
  beneath();
});
take(JSON.parse(place("told").textContent));
build();
if (document.body.dataset.live) follow(null);
