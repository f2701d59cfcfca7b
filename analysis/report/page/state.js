// Data, choices and theme of the page. Everything from a run is text: it only ever reaches
// textContent and the values of charts, never markup and never a chart's expressions.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

// Okabe and Ito's colours, in the order of analysis/plots.py; black is white in the dark.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"];
const SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross",
  "M-.9,-.4L-.4,-.9L0,-.5L.4,-.9L.9,-.4L.5,0L.9,.4L.4,.9L0,.5L-.4,.9L-.9,.4L-.5,0Z"];
const DASHES = [[1, 0], [6, 3], [6, 2, 1.5, 2], [1.5, 2.5]];
const WITHOUT_LAYERS = ["mel", "comb"];
const CONTROL_DASHES = { mel: [1, 0], comb: [6, 3, 1.5, 3], random_weights: [6, 4], shuffled_labels: [1.5, 3], permuted_table: [1.5, 6] };
const DIMENSIONS = ["model", "dataset", "experiment", "metric"];

/** Rows of a table as objects. */
function records(table) {
  return table.rows.map((row) => Object.fromEntries(table.columns.map((c, k) => [c, row[k]])));
}

const CURVES = records(DATA.curves);
const POINTS = records(DATA.points);
const MEANS = records(DATA.means);
const STYLES = new Map(DATA.series.map((style) => [style.name, style]));

const state = {
  chosen: {}, depth: "absolute", bands: true, controls: true, which: "best",
  sort: { key: null, down: false }, adviceModel: null, all: false,
};

/** Every value of a dimension, in the order in which it comes; primary metrics first. */
function valuesOf(dimension) {
  const everything = [...CURVES, ...MEANS, ...POINTS, ...DATA.matrices];
  const values = [...new Set(everything.map((row) => row[dimension]))];
  const rank = new Map(DATA.series.map((style, k) => [style.name, k]));
  return dimension === "model" ? values.sort((a, b) => rank.get(a) - rank.get(b)) : values;
}

/** Metrics that are the own figure of at least one experiment; the others start unchecked. */
function primaryMetrics() {
  const own = [...CURVES, ...POINTS].filter((row) => row.primary).map((row) => row.metric);
  return new Set([...own, ...DATA.matrices.map((matrix) => matrix.metric)]);
}

for (const dimension of DIMENSIONS) {
  const primary = dimension === "metric" ? primaryMetrics() : null;
  state.chosen[dimension] = new Set(valuesOf(dimension).filter((v) => !primary || primary.has(v)));
}

/** Whether the filters let a row through. */
function kept(row) {
  return DIMENSIONS.every((dimension) => state.chosen[dimension].has(row[dimension]));
}

/** The rows in groups by the values of some keys, in order. */
function grouped(rows, keys) {
  const groups = new Map();
  for (const row of rows) {
    const key = JSON.stringify(keys.map((k) => row[k]));
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return [...groups.values()];
}

function isNarrow() {
  return window.matchMedia("(max-width: 860px)").matches;
}

function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function colourOf(name) {
  const colour = COLOURS[STYLES.get(name).colour];
  return colour === "#000000" && isDark() ? "#FFFFFF" : colour;
}

/** An element with text, attributes and children. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing with attributes. */
function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function number(value, digits = 3) {
  return value === null || value === undefined ? "" : value.toFixed(digits);
}

function words(name) {
  return String(name).replaceAll("_", " ");
}
