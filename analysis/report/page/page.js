// Filters, switches, and the first drawing.
"use strict";

/** A short line as a chart has it, with its marker: the legend. */
function sample(colour, dash, shape) {
  const own = svg("svg", { width: 30, height: 12, viewBox: "-15 -6 30 12", "aria-hidden": "true" });
  own.append(svg("path", { d: "M-15,0H15", stroke: colour, "stroke-width": "1.8", "stroke-dasharray": dash.join(" ") }));
  if (shape !== null) own.append(svg("path", { d: SHAPE_PATHS[shape], fill: colour }));
  return own;
}

// The markers of state.js, eight points wide.
const SHAPE_PATHS = [
  "M-4,0A4,4 0 1,0 4,0A4,4 0 1,0 -4,0Z", "M-3.5,-3.5H3.5V3.5H-3.5Z", "M0,-4L4.2,3.5H-4.2Z",
  "M0,-4.6L4,0L0,4.6L-4,0Z", "M0,4L4.2,-3.5H-4.2Z", "M-1.5,-4.4H1.5V-1.5H4.4V1.5H1.5V4.4H-1.5V1.5H-4.4V-1.5H-1.5Z",
  "M-4.4,-2L-2,-4.4L0,-2.4L2,-4.4L4.4,-2L2.4,0L4.4,2L2,4.4L0,2.4L-2,4.4L-4.4,2L-2.4,0Z",
];

function drawFilters() {
  const box = document.getElementById("choices");
  box.replaceChildren(switches(), ...DIMENSIONS.map(dimensionFilter));
}

function dimensionFilter(dimension) {
  const values = valuesOf(dimension);
  const chosen = state.chosen[dimension];
  const all = (on) => () => { state.chosen[dimension] = new Set(on ? values : []); drawFilters(); draw(); };
  const boxes = values.map((value) => {
    const input = element("input", { type: "checkbox", name: dimension, value });
    input.checked = chosen.has(value);
    input.addEventListener("change", () => { chosen[input.checked ? "add" : "delete"](value); draw(); });
    const style = dimension === "model" ? STYLES.get(value) : null;
    const swatch = style ? [sample(colourOf(value), DASHES[style.dash], style.marker)] : [];
    return element("label", { class: "choice" }, input, ...swatch, element("span", { text: value }));
  });
  const buttons = values.length > 1
    ? [element("button", { type: "button", class: "small", text: "all", onclick: all(true) }), element("button", { type: "button", class: "small", text: "none", onclick: all(false) })] : [];
  return element("fieldset", { id: `filter-${dimension}` }, element("legend", {}, element("span", { text: `${dimension}s` }), ...buttons), ...boxes);
}

/** Depth, bands, controls. */
function switches() {
  const depth = ["absolute", "relative"].map((value) => element("button", {
    type: "button", id: value, text: value, "aria-pressed": state.depth === value,
    onclick: () => { state.depth = value; drawFilters(); draw(); },
  }));
  const boxes = [["bands", "bands and intervals"], ["controls", "controls"]].map(([key, text]) => {
    const input = element("input", { type: "checkbox", id: key });
    input.checked = state[key];
    input.addEventListener("change", () => { state[key] = input.checked; draw(); });
    return element("label", { class: "choice" }, input, element("span", { text }));
  });
  return element("fieldset", {}, element("legend", {}, element("span", { text: "depth" })),
    element("div", { class: "switch" }, ...depth), ...boxes);
}

function drawWarnings() {
  const lost = DATA.left_out.filter((one) => one.what === "the whole run").length;
  if (!lost) return;
  const text = lost === 1 ? "One run is left out of this page: " : `${lost} runs are left out of this page: `;
  document.getElementById("warnings").replaceChildren(
    element("p", { class: "warning" }, text, element("a", { href: "#left-out", text: "see why" }), "."));
}

/** Draw everything; the page says in data-drawn how often it has finished that. */
let turn = 0;
async function draw() {
  const own = ++turn;
  drawAdvice();
  drawTable();
  drawRuns();
  await Promise.all([drawCurves(), drawErrors(), drawHeat(), drawMatrices()]);
  if (own === turn) document.body.dataset.drawn = String(turn);
}

function start() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const redraw = (theme) => { setTheme(theme); drawFilters(); draw(); };
  system.addEventListener("change", (event) => redraw(event.matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => redraw(isDark() ? "light" : "dark"));
  document.getElementById("made").textContent = `made ${DATA.made} · Strata ${DATA.commit} · ${DATA.rows} rows`;
  if (isNarrow()) document.getElementById("filters").open = false;
  drawWarnings();
  redraw(system.matches ? "dark" : "light");
}

start();
