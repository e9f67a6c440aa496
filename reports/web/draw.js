// Charts with uPlot, in the page's colours, and the same numbers as a table.
import uPlot from "uplot";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const live = new Map();

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// series: [{label, colour, values, dash, fill}], values may be null where there is a gap.
// end: where the last step ends, which has to have room too.
export function draw(figure, { times, end, series, bars, format, axis, when }) {
  const place = figure.querySelector(".canvas");
  live.get(figure)?.destroy();
  const soft = colour("soft");
  const grid = { stroke: colour("line"), width: 1 };
  const shown = stacked(series);
  const options = {
    width: Math.max(place.clientWidth, 200),
    height: 250,
    legend: { live: true },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: !still() } },
    scales: { x: { time: true, range: () => [times[0] * 60, end * 60] }, y: { range: (u, least, most) => [0, most > 0 ? most * 1.08 : 1] } },
    tzDate: when.date,
    axes: [
      { stroke: soft, grid: { show: false }, ticks: grid, space: 80, font: "12px system-ui, sans-serif", values: (u, list) => list.map((at) => when.tick(at / 60)) },
      { stroke: soft, grid, ticks: { show: false }, size: 64, font: "12px system-ui, sans-serif", values: (u, list) => list.map(axis) },
    ],
    series: [
      { label: "Time", value: (u, at) => (at === null ? "–" : when.full(at / 60)) },
      ...shown.map((one, i) => ({
        label: one.label,
        stroke: colour(one.colour),
        width: bars && one.fill ? 0 : (one.width ?? 2),
        fill: one.fill ? colour(one.colour) : undefined,
        dash: one.dash,
        paths: bars && one.fill ? uPlot.paths.bars({ size: [0.8, 60], align: 1 }) : undefined,
        points: { show: !one.fill, size: 4, fill: colour(one.colour), filter: () => (one.fill ? null : alone(one.values)) },
        value: (u, v, s, at) => (at === null || at === undefined ? "–" : format(shown[i].own[at])),
      })),
    ],
  };
  const chart = new uPlot(options, [times.map((minute) => minute * 60), ...shown.map((one) => one.values)], place);
  live.set(figure, chart);
}

// A line through one point is nothing to see, so points between gaps are drawn.
function alone(values) {
  const has = (at) => values[at] !== null && values[at] !== undefined;
  return values.flatMap((_, at) => (has(at) && !has(at - 1) && !has(at + 1) ? [at] : []));
}

// Filled series stand on one another: the sum of all is drawn first, so that the others cover it.
function stacked(series) {
  const filled = series.filter((one) => one.fill);
  const base = [];
  const sums = filled.map((one) => ({
    ...one,
    own: one.values,
    values: one.values.map((v, i) => (v === null ? null : (base[i] = (base[i] ?? 0) + v))),
  }));
  return [...sums.reverse(), ...series.filter((one) => !one.fill).map((one) => ({ ...one, own: one.values }))];
}

export function table(figure, { times, series, format, when, grain }) {
  const head = figure.querySelector(".data thead");
  const body = figure.querySelector(".data tbody");
  const row = (tag, cells) => {
    const line = document.createElement("tr");
    cells.forEach((text, i) => {
      const cell = document.createElement(i === 0 || tag === "th" ? "th" : "td");
      cell.scope = tag === "th" ? "col" : "row";
      if (cell.tagName === "TD") cell.removeAttribute("scope");
      if (i > 0) cell.className = "n";
      cell.textContent = text;
      line.append(cell);
    });
    return line;
  };
  head.replaceChildren(row("th", ["From", ...series.map((one) => one.label)]));
  const lines = times.map((minute, i) =>
    row("td", [when.of(minute, grain), ...series.map((one) => (one.values[i] === null ? "no records" : format(one.values[i])))]),
  );
  body.replaceChildren(...lines);
}

export function fit() {
  for (const [figure, chart] of live) {
    chart.setSize({ width: Math.max(figure.querySelector(".canvas").clientWidth, 200), height: 250 });
  }
}
