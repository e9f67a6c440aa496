// Charts with uPlot, in the page's colours, and the same numbers as a table.
import uPlot from "uplot";

const live = new Map();

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// series: [{label, colour, values, dash, fill}], values may be null where there is a gap.
// end: where the last step ends, which has to have room too.
// A chart that shows the same as before of other data is drawn again, not made again.
export function draw(figure, asked) {
  const place = figure.querySelector(".canvas");
  const styles = getComputedStyle(document.documentElement);
  const colour = (name) => styles.getPropertyValue(`--${name}`).trim();
  const shown = stacked(asked.series);
  const shape = JSON.stringify([asked.bars, colour("text"), shown.map(({ label, colour, dash, fill, width }) => [label, colour, dash, fill, width])]);
  const data = [asked.times.map((minute) => minute * 60), ...shown.map((one) => one.values)];
  const known = live.get(figure);
  if (known?.shape === shape) {
    Object.assign(known.now, { ...asked, shown });
    known.chart.setData(data);
    return;
  }
  known?.chart.destroy();
  const now = { ...asked, shown };
  live.set(figure, { shape, now, chart: new uPlot(options(place, now, colour), data, place) });
}

// `now` is what is shown, which changes under the chart.
function options(place, now, colour) {
  const soft = colour("soft");
  const grid = { stroke: colour("line"), width: 1 };
  const { bars } = now;
  return {
    width: Math.max(place.clientWidth, 200),
    height: 250,
    legend: { live: true },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: !still() } },
    scales: { x: { time: true, range: () => [now.times[0] * 60, now.end * 60] }, y: { range: (u, least, most) => [0, most > 0 ? most * 1.08 : 1] } },
    tzDate: (seconds) => dated(seconds, now.when.zone),
    axes: [
      { stroke: soft, grid: { show: false }, ticks: grid, space: 80, font: "12px system-ui, sans-serif", values: (u, list) => list.map((at) => now.when.tick(at / 60)) },
      { stroke: soft, grid, ticks: { show: false }, size: 64, font: "12px system-ui, sans-serif", values: (u, list) => list.map(now.axis) },
    ],
    series: [
      { label: "Time", value: (u, at) => (at === null ? "–" : now.when.full(at / 60)) },
      ...now.shown.map((one, i) => ({
        label: one.label,
        stroke: colour(one.colour),
        width: bars && one.fill ? 0 : (one.width ?? 2),
        fill: one.fill ? colour(one.colour) : undefined,
        dash: one.dash,
        paths: bars && one.fill ? (u) => columns(u, now, now.shown[i].values, colour(one.colour)) : undefined,
        points: { show: !one.fill, size: 4, fill: colour(one.colour), filter: () => (one.fill ? null : alone(now.shown[i].values)) },
        value: (u, v, s, at) => (at === null || at === undefined ? "–" : now.format(now.shown[i].own[at])),
      })),
    ],
  };
}

// Columns as whole pixels, side by side where there is no room between them: a path of hundreds of
// edges takes a processor without a graphics card a hundred times as long. There is no path to keep.
function columns(u, { times, end }, values, fill) {
  const x = (minute) => Math.round(u.valToPos(minute * 60, "x", true));
  const foot = Math.round(u.valToPos(0, "y", true));
  u.ctx.fillStyle = fill;
  values.forEach((value, i) => {
    if (!(value > 0)) return;
    const [from, to] = [x(times[i]), x(times[i + 1] ?? end)];
    const wide = to - from;
    const top = Math.min(foot - 1, Math.round(u.valToPos(value, "y", true)));
    u.ctx.fillRect(from, top, Math.max(1, wide < 4 ? wide : wide - Math.max(1, Math.round(wide / 5))), foot - top);
  });
  return null;
}

// The date whose own fields, in the browser's zone, are those of `zone`, as uPlot wants it.
function dated(seconds, zone) {
  const at = new Date(seconds * 1000);
  if (zone !== "UTC") return uPlot.tzDate(at, zone); // slow: it writes and parses
  return new Date(at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate(), at.getUTCHours(), at.getUTCMinutes());
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

// The same numbers as a table, made when somebody opens it: thousands of cells take longer than the chart.
export function table(figure, data) {
  const details = figure.querySelector(".data");
  const fill = () => details.open && rows(details, data);
  details.ontoggle = fill;
  fill();
}

function rows(details, { times, series, format, when, grain }) {
  const row = (tag, cells) => {
    const line = document.createElement("tr");
    cells.forEach((text, i) => {
      const cell = document.createElement(i === 0 || tag === "th" ? "th" : "td");
      if (cell.tagName === "TH") cell.scope = tag === "th" ? "col" : "row";
      if (i > 0) cell.className = "n";
      cell.textContent = text;
      line.append(cell);
    });
    return line;
  };
  details.querySelector("thead").replaceChildren(row("th", ["From", ...series.map((one) => one.label)]));
  const lines = times.map((minute, i) =>
    row("td", [when.of(minute, grain), ...series.map((one) => (one.values[i] === null ? "no records" : format(one.values[i])))]),
  );
  details.querySelector("tbody").replaceChildren(...lines);
}

export function fit() {
  for (const [figure, { chart }] of live) {
    chart.setSize({ width: Math.max(figure.querySelector(".canvas").clientWidth, 200), height: 250 });
  }
}
