// Specifications of the charts, in Vega-Lite. Names of runs are values in them, nothing more.
"use strict";

/** Look of every chart, from the colours of the page. */
function config() {
  const [text, quiet, line] = [ink("ink"), ink("quiet"), ink("line")];
  return {
    background: null,
    font: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: quiet, titleColor: quiet, gridColor: line, domainColor: line, tickColor: line,
      labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", gridOpacity: 0.7,
    },
    legend: { labelColor: quiet, titleColor: quiet, titleFontWeight: "normal" },
    text: { color: text },
  };
}

/** Scales that give every series of some rows its colour, marker and dash. */
function scales(rows, key) {
  const names = [...new Set(rows.map((row) => row[key]))];
  const styles = names.map((name) => STYLES.get(name));
  const scale = (range) => ({ field: key, type: "nominal", legend: null, scale: { domain: names, range } });
  return {
    color: scale(names.map(colourOf)),
    shape: scale(styles.map((style) => SHAPES[style.marker])),
    strokeDash: scale(styles.map((style) => DASHES[style.dash])),
  };
}

/** A scale that is at least 0.1 wide, lest noise on a flat curve look like a finding. */
function widened(values, least = 0.1) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = Math.max((least - (high - low)) / 2, 0.04 * (high - low));
  const top = Math.min(high + pad, Math.max(high, 1.005));
  const bottom = Math.min(low - pad, top - least);
  return low >= 0 && bottom < 0 ? [0, Math.max(top, least)] : [bottom, top];
}

// As in analysis/plots.py: scores far below 0.1 fill their panel; without a deviation they may be noise.
function leastScale(rows) {
  const noise = Math.max(...rows.map((row) => row.std).filter(Number.isFinite));
  return Number.isFinite(noise) ? Math.min(0.1, Math.max(...rows.map((row) => Math.abs(row.mean)), 10 * noise)) : 0.1;
}

const place = (layer) => [layer[0] === "C" ? 0 : 1, Number(layer.slice(1))];

function layerOrder(rows) {
  const names = [...new Set(rows.map((row) => row.layer).filter((layer) => /^[CT]\d+$/.test(layer)))];
  return names.sort((a, b) => place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1]);
}

const detail = (key) => ({ field: key, type: "nominal" });

/** Low and high end of a row's band of one standard deviation. */
function banded(row) {
  const std = row.std ?? 0;
  return { ...row, bottom: row.mean - std, top: row.mean + std, words: words(row.control) };
}

/** Curves of one experiment over layers, with what they are held against: in grey, or where several
 * models have such lines in each one's own colour, pale, lest nobody know whose is whose. */
function curveSpec(rows) {
  const relative = state.depth === "relative";
  const usable = rows.filter((row) => !relative || WITHOUT_LAYERS.includes(row.control) || row.depth !== null);
  const own = usable.filter((row) => row.control === "").map(banded);
  if (!own.length) return null;
  const controls = state.controls ? usable.filter((row) => row.control !== "").map(banded) : [];
  const levels = controls.filter((row) => WITHOUT_LAYERS.includes(row.control));
  const lines = controls.filter((row) => !WITHOUT_LAYERS.includes(row.control));
  const style = scales(own, "series");
  const x = relative
    ? { field: "depth", type: "quantitative", title: "depth (block by number of blocks)", scale: { domain: [0, 1] }, axis: { grid: false, tickCount: 5 } }
    : { field: "layer", type: "ordinal", title: null, sort: layerOrder(own), axis: { labelAngle: 0, labelOverlap: true } };
  const ends = (row) => [row.bottom, row.top, row.low ?? row.mean, row.high ?? row.mean];
  const domain = widened([...own, ...controls].flatMap(ends), leastScale(own));
  const y = (field) => ({ field, type: "quantitative", title: rows[0].metric, scale: { domain, zero: false, nice: false }, axis: { tickCount: 5 } });
  const grey = { color: ink("control") };
  const pale = new Set(lines.map((row) => row.series)).size > 1;
  const line = pale ? { opacity: 0.55 } : grey;
  const whose = pale ? { color: style.color } : {};
  const each = [detail("part"), detail("series")];
  const told = [
    ...[["series", "model"], ["layer", "layer"], ["words", "control"]].map(([field, title]) => ({ field, title })),
    ...[["mean", rows[0].metric], ["std", "± (samples, trials)"], ["low", "95 % low"], ["high", "95 % high"], ["depth", "depth"]]
      .map(([field, title]) => ({ field, title, format: ".3f" })),
    { field: "count", title: "scores" },
  ];
  const layers = [
    layer(levels, { type: "rect", opacity: 0.16, ...grey }, { y: y("bottom"), y2: { field: "top" } }),
    ...grouped(levels, ["control"]).map((one) =>
      layer(one, { type: "rule", strokeWidth: 1.3, strokeDash: CONTROL_DASHES[one[0].control], ...grey }, { y: y("mean"), tooltip: told })),
    ...grouped(lines, ["control"]).flatMap((one) => [
      layer(one, { type: "area", ...line, opacity: pale ? 0.08 : 0.16 }, { x, y: y("bottom"), y2: { field: "top" }, ...whose, detail: each }),
      layer(one, { type: "line", strokeWidth: 1.3, strokeDash: CONTROL_DASHES[one[0].control], ...line }, { x, y: y("mean"), ...whose, detail: each }),
    ]),
    layer(lines, { type: "point", filled: true, opacity: 0, size: 60, ...grey }, { x, y: y("mean"), tooltip: told }),
    state.bands && layer(own, { type: "area", opacity: 0.17 }, { x, y: y("bottom"), y2: { field: "top" }, color: style.color, detail: each }),
    state.bands && layer(own.filter((row) => row.low !== null), { type: "rule", strokeWidth: 1.2 }, { x, y: y("low"), y2: { field: "high" }, color: style.color }),
    layer(own, { type: "line", strokeWidth: 1.8 }, { x, y: y("mean"), color: style.color, strokeDash: style.strokeDash, detail: each }),
    layer(own, { type: "point", filled: true, opacity: 1, size: 42, name: "marks" }, { x, y: y("mean"), color: style.color, shape: style.shape, tooltip: shownOf(told, own) }),
  ];
  return { height: 210, layer: layers.filter(Boolean) };
}

/** Fields of a tooltip that at least one row has. */
function shownOf(told, rows) {
  return told.filter(({ field }) => rows.some((row) => row[field] !== null && row[field] !== "" && row[field] !== undefined));
}

function layer(values, mark, encoding) {
  return values.length ? { data: { values }, mark, encoding } : null;
}

/** Layers of one model against experiments; colour runs from an experiment's worst to its best. */
function heatSpec(rows) {
  const cells = grouped(rows, ["experiment", "metric"]).flatMap((own) => {
    const values = own.map((row) => row.mean);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return own.map((row) => ({ ...row, share: high > low ? (row.mean - low) / (high - low) : 1, column: columnOf(row, rows) }));
  });
  const order = layerOrder(cells).reverse();
  const base = {
    x: { field: "column", type: "ordinal", title: null, sort: null, axis: { labelAngle: -50, labelLimit: 150, orient: "bottom", grid: false, domain: false, ticks: false } },
    y: { field: "layer", type: "ordinal", title: null, sort: order, axis: { grid: false, domain: false, ticks: false } },
  };
  const told = [
    { field: "experiment", title: "experiment" }, { field: "layer", title: "layer" },
    { field: "metric", title: "metric" }, { field: "mean", title: "mean", format: ".3f" },
    { field: "std", title: "± (samples, trials)", format: ".3f" },
    { field: "share", title: "of the range", format: ".0%" },
  ];
  const colour = { field: "share", type: "quantitative", scale: { scheme: "cividis", domain: [0, 1] }, legend: { title: "lowest to highest", format: ".0%", orient: "top", direction: "horizontal", gradientLength: 120, gradientThickness: 8, tickCount: 2 } };
  return {
    height: 19 * order.length,
    layer: [
      { data: { values: cells }, mark: { type: "rect", name: "marks" }, encoding: { ...base, color: colour, tooltip: told } },
      { data: { values: cells.filter((row) => row.share === 1) }, mark: { type: "point", filled: true, color: "#222", size: 22, opacity: 1 }, encoding: base },
    ],
  };
}

/** An experiment's name, with the metric where it has several. */
function columnOf(row, rows) {
  const several = rows.some((other) => other.experiment === row.experiment && other.metric !== row.metric);
  return several ? `${row.experiment} ${row.metric}` : row.experiment;
}

/** Every layer of a model with every layer of another. */
function matrixSpec(matrix) {
  const cells = matrix.values.flatMap((row, i) => row.map((value, j) => ({ layer: matrix.layers[i], other: matrix.others[j], value })));
  const values = cells.filter((cell) => cell.value !== null);
  const domain = widened(values.map((cell) => cell.value));
  const plain = { grid: false, domain: false, ticks: false };
  return {
    height: 24 * matrix.layers.length,
    data: { values },
    mark: { type: "rect", name: "marks" },
    encoding: {
      x: { field: "other", type: "ordinal", title: matrix.other, sort: matrix.others, axis: { ...plain, labelAngle: 0, labelOverlap: true } },
      y: { field: "layer", type: "ordinal", title: matrix.model, sort: [...matrix.layers].reverse(), axis: plain },
      color: { field: "value", type: "quantitative", scale: { scheme: "cividis", domain }, legend: { title: matrix.metric, gradientThickness: 8, gradientLength: 120 } },
      tooltip: [
        { field: "layer", title: matrix.model }, { field: "other", title: matrix.other },
        { field: "value", title: matrix.metric, format: ".3f" },
      ],
    },
  };
}

/** Error rates against the number of re-initialised blocks: seeds, their mean, its interval. */
function errorSpec(means, points) {
  const style = scales([...means, ...points], "model");
  const counts = [...new Set([...means, ...points].map((row) => row.reinit_top))];
  const ends = [...means.flatMap((row) => [row.mean, row.low, row.high]), ...points.map((row) => row.value)];
  const seen = ends.filter((value) => value !== null);
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  const pad = Math.max(0.005, 0.06 * (high - low));
  const domain = [Math.max(0, low - pad), high + pad];
  const x = { field: "reinit_top", type: "quantitative", title: "re-initialised blocks (from the top)", scale: { domain: [Math.min(...counts) - 0.3, Math.max(...counts) + 0.3], nice: false }, axis: { values: counts, format: "d", grid: false } };
  const y = (field) => ({ field, type: "quantitative", title: `${(means[0] ?? points[0]).metric} (lower is better)`, scale: { domain, zero: false, nice: false }, axis: { format: "~%", tickCount: 5 } });
  const toldMean = [
    { field: "model", title: "model" }, { field: "reinit_top", title: "re-initialised" },
    { field: "mean", title: "mean", format: ".2%" }, { field: "low", title: "95 % low", format: ".2%" },
    { field: "high", title: "95 % high", format: ".2%" }, { field: "seeds", title: "seeds" },
  ];
  const toldPoint = [
    { field: "model", title: "model" }, { field: "reinit_top", title: "re-initialised" },
    { field: "seed", title: "seed" }, { field: "value", title: "rate", format: ".2%" },
    { field: "low", title: "95 % low (test)", format: ".2%" },
    { field: "high", title: "95 % high (test)", format: ".2%" }, { field: "run", title: "run" },
  ];
  const intervals = means.filter((row) => row.low !== null);
  const layers = [
    state.bands && layer(intervals, { type: "area", opacity: 0.14 }, { x, y: y("low"), y2: { field: "high" }, color: style.color }),
    state.bands && layer(intervals, { type: "rule", strokeWidth: 1.4 }, { x, y: y("low"), y2: { field: "high" }, color: style.color }),
    layer(means, { type: "line", strokeWidth: 1.8 }, { x, y: y("mean"), color: style.color, strokeDash: style.strokeDash }),
    layer(points, { type: "point", filled: false, opacity: 0.75, size: 34, strokeWidth: 1.2 }, { x, y: y("value"), color: style.color, shape: style.shape, tooltip: toldPoint }),
    layer(means, { type: "point", filled: true, opacity: 1, size: 70, name: "marks" }, { x, y: y("mean"), color: style.color, shape: style.shape, tooltip: shownOf(toldMean, means) }),
  ];
  return { height: 250, layer: layers.filter(Boolean) };
}
