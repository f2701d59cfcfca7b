// The sections of the page, drawn anew whenever a choice changes.
"use strict";

const views = new Map(); // section -> its charts, to be let go of before the next are drawn

/** Empty a section, give it its heading and return it. */
function section(id, title, lead) {
  for (const view of views.get(id) ?? []) view.finalize();
  views.set(id, []);
  const own = document.getElementById(id);
  own.replaceChildren();
  if (title) own.append(element("h2", { text: title }), element("p", { class: "lead", text: lead }));
  return own;
}

/** A card with a title and a chart, maybe below a topic; a promise of the chart. */
function card(id, grid, title, under, spec, topic = "") {
  const chart = element("div", { class: "chart" });
  const made = element("figure", { class: "card", style: "margin:0" },
    ...(topic ? [element("p", { class: "topic", text: topic })] : []), element("h3", { text: title }), element("p", { class: "quiet", text: under }), chart);
  grid.append(made);
  if (spec === null) {
    chart.append(element("p", { class: "quiet", text: "Not known for this choice: relative depth is of blocks alone, and needs their number." }));
    return Promise.resolve();
  }
  const whole = {
    width: "container", autosize: { type: "fit-x", contains: "padding" }, config: config(), ...spec,
  };
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
    tooltip: { theme: "custom", disableDefaultStyle: true },
  };
  return VEGA_STRATA.vegaEmbed(chart, whole, options).then((result) => views.get(id).push(result));
}

function nothing(own, what) {
  own.append(element("p", { class: "quiet", text: `No ${what} is left by the filters.` }));
}

function drawCurves() {
  const rows = CURVES.filter(kept);
  if (!CURVES.length) return section("curves");
  const own = section("curves", "Curves over layers",
    "Mean over samples and trials, with a band of one standard deviation; a bar is the 95 % interval over test speakers. Grey is what a score is held against: the mel filterbank, random weights, shuffled labels, a table of vectors with permuted rows, boundaries at equal distances; where a panel has several models, each one's own controls are in its own colour, pale. Every panel has a scale of its own.");
  if (!rows.length) return nothing(own, "curve");
  const grid = element("div", { class: "grid" });
  own.append(controlsLegend(rows), grid);
  const panels = grouped(rows, ["experiment", "metric", "dataset", "partition"]);
  const headed = DATA.groups.length > 1;
  return Promise.all(DATA.groups.flatMap(({ heading, experiments }) =>
    panels.filter((panel) => experiments.includes(panel[0].experiment)).map((panel) => {
      const { experiment, metric, dataset, partition } = panel[0];
      const under = `${metric} · ${dataset} (${partition})`;
      return card("curves", grid, experiment, under, curveSpec(panel), headed ? heading : "");
    })));
}

/** What the grey lines are. */
function controlsLegend(rows) {
  const names = Object.keys(CONTROL_DASHES).filter((name) => rows.some((row) => row.control === name));
  const items = state.controls ? names : [];
  return element("p", { class: "quiet bar" }, ...items.map((name) =>
    element("span", { class: "choice" }, sample(ink("control"), CONTROL_DASHES[name], null), words(name))));
}

function drawHeat() {
  const rows = CURVES.filter((row) => kept(row) && row.control === "" && /^[CT]\d+$/.test(row.layer) && row.mean !== null && row.rankable);
  const groups = grouped(rows, ["series", "dataset", "partition"])
    .filter((own) => new Set(own.map((row) => row.experiment)).size > 1);
  if (!groups.length) return section("heat");
  const own = section("heat", "Where each experiment peaks",
    "Layers of a model against experiments. The colour runs from an experiment's lowest layer to its highest, which has a dot; the values are under the pointer.");
  const grid = element("div", { class: "grid" });
  own.append(grid);
  return Promise.all(groups.map((group) =>
    card("heat", grid, group[0].series, `${group[0].dataset} (${group[0].partition})`, heatSpec(group))));
}

function drawMatrices() {
  const chosen = DATA.matrices.filter(kept);
  if (!chosen.length) return section("matrices");
  const own = section("matrices", "Layers of one model against layers of another",
    "How alike every pair of layers is; the first layers are at the bottom left.");
  const grid = element("div", { class: "grid" });
  own.append(grid);
  return Promise.all(chosen.map((matrix) =>
    card("matrices", grid, `${matrix.model} with ${matrix.other}`, `${matrix.experiment}, ${matrix.metric} · ${matrix.dataset} (${matrix.partition})`, matrixSpec(matrix))));
}

function drawErrors() {
  if (!POINTS.length) return section("errors");
  const own = section("errors", "Error rate against re-initialised layers",
    "Open marks are trainings, one for each seed; full marks their mean, with Student's 95 % interval over seeds where there are several. Lower is better.");
  const keys = ["metric", "dataset", "partition", "train_dataset", "subset"];
  const [means, points] = [MEANS.filter(kept), POINTS.filter((row) => kept(row) && row.reinit_top !== null)];
  if (!points.length) return nothing(own, "training");
  const grid = element("div", { class: "grid" });
  own.append(grid);
  return Promise.all(grouped(points, keys).map((panel) => {
    const same = means.filter((row) => keys.every((key) => row[key] === panel[0][key]));
    const { metric, dataset, partition, train_dataset: trained, subset } = panel[0];
    const title = `${metric.replace("_lm", " with n-gram")}, trained on ${subset === "all" ? "all" : subset} of ${trained}`;
    return card("errors", grid, title, `tested on ${dataset} (${partition})`, errorSpec(same, panel));
  }));
}

const COLUMNS = [
  ["series", "model"], ["experiment", "experiment"], ["metric", "metric"], ["dataset", "dataset"],
  ["control", "control"], ["layer", "layer"], ["reinit_top", "re-initialised"], ["subset", "trained on"],
  ["mean", "value"], ["std", "±"], ["low", "95 % low"], ["high", "95 % high"], ["count", "scores"],
];
const NUMBERS = new Set(["reinit_top", "mean", "std", "low", "high", "count"]);
const SHOWN = 300;

/** Rows of the table: the best layer of each curve (among those that can be held against each other) or every layer; then the trainings. */
function tableRows() {
  const curves = CURVES.filter(kept);
  const means = MEANS.filter(kept).map((row) => ({ ...row, series: row.model, count: row.seeds, control: "", layer: "" }));
  if (state.which === "every") return [...curves, ...means];
  const best = grouped(curves.filter((row) => row.control === "" && row.mean !== null && row.rankable), ["series", "experiment", "metric", "dataset", "partition"])
    .map((rows) => rows.reduce((a, b) => (b.mean > a.mean ? b : a)));
  return [...best, ...means];
}

/** Order of two values: numbers by size, layers by depth, words by letter; missing ones last. */
function compare(a, b, key) {
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const sign = state.sort.down ? -1 : 1;
  if (NUMBERS.has(key)) return sign * (a - b);
  if (key === "layer" && /^[CT]\d/.test(a) && /^[CT]\d/.test(b)) return sign * (place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1]);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

function drawTable() {
  const own = section("table", "Table", "A click on a heading sorts by it.");
  const { key, down } = state.sort;
  const rows = tableRows();
  if (key) rows.sort((a, b) => compare(a[key], b[key], key));
  const used = COLUMNS.filter(([name]) => rows.some((row) => row[name] !== null && row[name] !== undefined && row[name] !== ""));
  const head = used.map(([name, title]) => element("th",
    { class: NUMBERS.has(name) ? "number" : "", "aria-sort": key === name ? (down ? "descending" : "ascending") : "none", "data-key": name },
    element("button", { type: "button", text: title, onclick: () => sortBy(name) })));
  const shown = state.all ? rows : rows.slice(0, SHOWN);
  const body = shown.map((row) => element("tr", { class: row.control ? "control" : "" },
    ...used.map(([name]) => element("td", { class: NUMBERS.has(name) ? "number" : "", text: cell(row, name) }))));
  own.append(tableBar(rows.length, shown.length), element("div", { class: "scroll", tabindex: "0" },
    element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body))));
}

function cell(row, name) {
  const value = row[name];
  if (value === null || value === undefined) return "";
  if (name === "dataset") return `${value} (${row.partition})`;
  if (name === "control") return words(value);
  return ["mean", "std", "low", "high"].includes(name) ? number(value) : String(value);
}

function tableBar(total, shown) {
  const change = (which) => () => { state.which = which; state.all = false; drawTable(); };
  const more = shown < total ? [element("button", { type: "button", class: "small", text: `show all ${total}`, onclick: () => { state.all = true; drawTable(); } })] : [];
  return element("div", { class: "bar" },
    element("div", { class: "switch" },
      element("button", { type: "button", id: "best", text: "best layers", "aria-pressed": state.which === "best", onclick: change("best") }),
      element("button", { type: "button", id: "every", text: "every layer, controls", "aria-pressed": state.which === "every", onclick: change("every") })),
    element("span", { class: "quiet", text: shown < total ? `${shown} of ${total} rows` : `${total} rows` }), ...more);
}

function sortBy(name) {
  const same = state.sort.key === name;
  state.sort = { key: name, down: same ? !state.sort.down : NUMBERS.has(name) };
  drawTable();
}

function drawAdvice() {
  if (!DATA.advice.length) return section("advice");
  const own = section("advice", "In short", "What the scores say; the figures behind it are under each sentence.");
  const models = [...new Set(DATA.advice.map((one) => one.model))];
  const left = models.filter((model) => !STYLES.has(model) || state.chosen.model.has(model));
  if (!left.length) return nothing(own, "advice");
  const model = left.includes(state.adviceModel) ? state.adviceModel : left[0];
  if (models.length > 1) {
    own.append(element("div", { class: "models" }, ...left.map((name) => element("button", {
      type: "button", text: name || "all models", "aria-pressed": name === model,
      onclick: () => { state.adviceModel = name; drawAdvice(); },
    }))));
  }
  const chosen = DATA.advice.filter((one) => one.model === model);
  const several = new Set(chosen.map((one) => one.dataset)).size > 1;
  for (const one of DATA.summaries.filter((summary) => summary.model === model)) {
    own.append(element("p", { class: "summary", text: several ? `${one.dataset}: ${one.text}` : one.text }));
  }
  own.append(element("div", { class: "advice" }, ...chosen.map((one) =>
    element("article", { class: `card${one.says_something ? "" : " nothing"}` },
      element("p", { class: "topic", text: several ? `${one.topic} · ${one.dataset}` : one.topic }),
      element("h3", { class: "headline", text: one.headline }),
      element("p", { class: "claim", text: one.claim }), ...figuresOf(one)))));
  own.append(...caveatsOf(chosen));
}

/** The figures of a piece of advice in a fold: a table with a small curve for each measure. */
function figuresOf(one) {
  if (!one.figures.length) return [];
  const rows = one.figures.flatMap((figures) => [
    element("tr", { class: "measure" }, element("th", { colspan: "2", scope: "rowgroup" },
      element("span", { text: figures.measure }), ...(figures.layers.length > 1 ? [sparkLine(figures)] : []))),
    ...Object.entries(figures.cells).map(([name, text]) => element("tr", {},
      element("th", { scope: "row", text: name }), element("td", { text }))),
  ]);
  return [element("details", {}, element("summary", { class: "quiet", text: "figures" }),
    element("table", { class: "figures" }, element("tbody", {}, ...rows)))];
}

/** A curve as wide as a word or two: the best layer full, those like it open, the rest small. */
function sparkLine(figures) {
  const [width, height, edge] = [150, 36, 5];
  const [low, high] = [Math.min(...figures.means), Math.max(...figures.means)];
  const at = figures.means.map((mean, k) => [
    edge + (k * (width - 2 * edge)) / (figures.means.length - 1),
    height - edge - ((mean - low) / (high - low || 1)) * (height - 2 * edge),
  ]);
  const values = figures.layers.map((layer, k) => `${layer} ${number(figures.means[k])}`).join(", ");
  const own = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "spark", role: "img", "aria-label": values });
  const title = svg("title", {});
  title.textContent = values;
  own.append(title, svg("polyline", { points: at.map((point) => point.map((x) => x.toFixed(1)).join(",")).join(" ") }));
  at.forEach(([x, y], k) => {
    const kind = k === figures.best ? "best" : figures.alike.includes(k) ? "alike" : "other";
    own.append(svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: kind === "other" ? 1.6 : 3.2, class: kind }));
  });
  return own;
}

/** What a model's advice does not say, in one place; what several measures share is told once. */
function caveatsOf(advice) {
  const measures = new Map();
  for (const caveat of advice.flatMap((one) => one.caveats.map((own) => ({ ...own, topic: one.topic })))) {
    if (!measures.has(caveat.text)) measures.set(caveat.text, new Set());
    for (const name of caveat.measures.length ? caveat.measures : [caveat.topic]) measures.get(caveat.text).add(name);
  }
  if (!measures.size) return [];
  const lines = [...measures].map(([text, names]) => element("li", {},
    element("strong", { text: `${[...names].join(", ")}: ` }), text));
  return [element("details", { class: "card caveats" },
    element("summary", { text: `What this does not say (${measures.size})` }), element("ul", { class: "plain" }, ...lines))];
}

function drawRuns() {
  const own = section("runs", "Runs", "Where the figures come from, newest first: how to make each again, and what it dropped.");
  const chosen = DATA.runs.filter((run) => ["model", "dataset", "experiment", "metric"].every((dimension) =>
    run[`${dimension}s`].some((value) => state.chosen[dimension].has(value))));
  own.append(element("div", { class: chosen.length > 12 ? "many" : "" }, ...chosen.map(runDetails)));
  if (!chosen.length) nothing(own, "run");
  const superseded = Object.entries(DATA.duplicates).map(([run, count]) => `${run}: ${count} rows, a newer run has the same`);
  list(own, "left-out", "Left out", leftOut());
  list(own, "superseded", "Superseded", superseded);
  list(own, "mixed", "Mixed because report.mix=true", DATA.notes);
}

/** What is not on the page and why; a reason that many runs share is told once. */
function leftOut() {
  const same = grouped(DATA.left_out, ["what", "why"]);
  return same.map((rows) => `${rows.map((row) => row.run).join(", ")}: ${rows[0].what}. ${rows[0].why}`);
}

function list(own, id, title, lines) {
  if (!lines.length) return;
  own.append(element("h2", { text: title, id }),
    element("ul", { class: "plain card" }, ...lines.map((line) => element("li", { text: line }))));
}

function runDetails(run) {
  const facts = [
    ["written", run.written], ["overrides", run.overrides.join("  ") || "not recorded"], ["commit", run.commit],
    ["revision", run.revision], ["config key", run.config_key],
    ["versions", Object.entries(run.versions ?? {}).map(([name, version]) => `${name} ${version}`).join(", ")],
    ["dropped", Object.entries(run.dropped).map(([why, count]) => `${why} ${count}`).join("; ") || "nothing"],
  ];
  const about = `${run.models.join(", ")} · ${run.datasets.join(", ")} · ${run.experiments.length} experiment${run.experiments.length === 1 ? "" : "s"}, ${run.rows} rows`;
  const config = run.config ? [element("details", {}, element("summary", { class: "quiet", text: "configuration" }), element("pre", { text: JSON.stringify(run.config, null, 1) }))]
    : [element("p", { class: "quiet", text: "Its configuration is in metadata.json in its folder." })];
  return element("details", { class: "run" },
    element("summary", {}, element("strong", { text: run.name }), " ", element("span", { class: "quiet", text: about })),
    element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })])), ...config);
}
