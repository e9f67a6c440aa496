// Filters over the page's own data: no server, no other site, no state but the address.
import "uplot/dist/uPlot.min.css";
import { draw, fit, table } from "./draw.js";
import { ahead, Changed, forget, read } from "./read.js";
import { fromAddress, question, toAddress } from "./state.js";
import { edges, merged, quantile, sum } from "./sums.js";
import * as words from "./words.js";

const root = document.getElementById("explore");
const form = root.querySelector("form");
const said = root.querySelector("[role=status]");
const zone = root.dataset.zone;
const files = root.dataset.files.split(" ");
const end = Number(root.dataset.end); // minutes
let shown = null;
let asked = 0;

// The smallest file that can tell this.
function fileFor({ client, endpoint }) {
  if (files.includes("all") && client && endpoint) return "all";
  if (files.includes("clients") && client) return "clients";
  return endpoint || !files.includes("total") ? "endpoints" : "total";
}

const fileOf = (q, name) => `data/${q.grain === "hour" ? "hour" : "day"}-${name}.parquet`;

// While the reader looks at an answer, the files of the next question are opened.
async function openAhead(q) {
  for (const name of files) {
    await new Promise((then) => (window.requestIdleCallback ?? setTimeout)(then));
    await ahead(fileOf(q, name)).catch(() => {}); // whoever asks for it will say so
  }
}

const COUNTS = ["requests", "rejected", "status_5", "bytes_in", "bytes_out"];

async function answer(q) {
  const name = fileFor(q);
  const url = fileOf(q, name);
  const filters = {};
  if (q.client && files.includes("clients")) filters.client = q.client;
  if (q.endpoint) filters.endpoint = q.endpoint;
  if (q.tier) filters.tier = q.tier;
  const columns = [...new Set([...COUNTS, ...(q.count && !isCode(q.count) ? [q.count] : [])])];
  const extra = q.count ? (isCode(q.count) ? ["status"] : []) : ["latency"];
  const { tier: _, ...sought } = filters; // the files are sorted by the others
  const rows = await read(url, ["minute", ...columns, ...extra, ...Object.keys(filters)], sought);
  const ask = (shift) => {
    const edge = edges(q.grain, q.from - shift, q.to - shift);
    return { edge, sums: sum(rows, columns, filters, edge, q.from - shift, q.to - shift) };
  };
  const result = ask(0);
  // A step in which somebody sent something is a zero for those who did not; the others are gaps.
  result.known = result.sums.seen;
  if (name !== "total" && files.includes("total")) {
    const all = await read(url.replace(name, "total"), ["minute"]);
    result.known = sum(all, [], {}, result.edge).seen;
  }
  result.before = q.shift ? ask(q.shift) : null;
  return result;
}

const isCode = (count) => /^\d+$/.test(count);
const total = (values) => values.reduce((a, b) => a + b, 0);

function counted({ sums }, count) {
  if (!count) return sums.requests;
  return isCode(count) ? sums.codes.map((codes) => codes.get(Number(count)) ?? 0) : sums[count];
}

function when(q) {
  const at = q.grain === "hour" ? zone : "UTC";
  const of = words.moments(zone);
  return { of, tick: words.ticks(at, q.grain), full: (minute) => of(minute, q.grain), zone: at };
}

function show(q, result) {
  const { edge, sums, known, before } = result;
  const times = edge.slice(0, -1);
  const gapped = (values) => Array.from(values, (v, i) => (known[i] ? v : null));
  const main = gapped(counted(result, q.count));
  const label = q.count ? form.elements.count.selectedOptions[0].text : "Requests";
  const series = q.count
    ? [{ label, colour: "passed", values: main, fill: true }]
    : [
        { label: "Passed", colour: "passed", values: gapped(sums.requests.map((n, i) => Math.max(0, n - sums.rejected[i] - failed(sums, i)))), fill: true },
        { label: "Refused", colour: "refused", values: gapped(sums.rejected), fill: true },
        { label: "Errors", colour: "errors", values: gapped(sums.requests.map((n, i) => failed(sums, i))), fill: true },
      ];
  if (before) {
    const values = Array.from(counted(before, q.count)).slice(0, times.length);
    while (values.length < times.length) values.push(null);
    series.push({ label: "Before", colour: "text", values: values.map((v, i) => (before.sums.seen[i] ? v : null)), dash: [6, 4], width: 1.5 });
  }
  const common = { times, end: edge.at(-1), when: when(q), grain: q.grain };
  one("x-requests", { ...common, series, bars: true, format: words.integer, axis: words.compact }, label, "requests per", q);
  const quantiles = [0.99, 0.95, 0.5].map((p) => times.map((_, i) => (sums.latency ? quantile(sums.latency[i], p) : null)));
  const curves = quantiles.map((values, i) => ({ label: ["p99", "p95", "p50"][i], colour: ["p99", "p95", "p50"][i], values, width: [1.25, 1.75, 2.25][i], dash: i === 1 ? [6, 4] : undefined }));
  document.getElementById("x-latency").hidden = Boolean(q.count);
  if (!q.count) one("x-latency", { ...common, series: curves, format: words.latency, axis: words.latency }, "Latency", "time to answer, by", q);
  const flow = [
    { label: "Out", colour: "passed", values: gapped(sums.bytes_out), fill: true },
    { label: "In", colour: "p50", values: gapped(sums.bytes_in), fill: true },
  ];
  document.getElementById("x-bytes").hidden = Boolean(q.count);
  if (!q.count) one("x-bytes", { ...common, series: flow, bars: true, format: words.bytes, axis: words.bytes }, "Bytes", "bytes per", q);
  tiles(q, result, label);
}

const failed = (sums, i) => Math.max(0, Math.min(sums.status_5[i], sums.requests[i] - sums.rejected[i]));

function one(id, data, label, what, q) {
  const figure = document.getElementById(id);
  figure.querySelector("h2").textContent = label;
  figure.querySelector(".unit").textContent = `${what} ${q.grain}, ${q.grain === "hour" ? zone : "UTC"}`;
  draw(figure, data);
  table(figure, data);
}

function tiles(q, result, label) {
  const { sums, before } = result;
  const all = total(Array.from(counted(result, q.count)));
  const put = (name, value, note = "") => {
    const [shown, beside] = root.querySelectorAll(`[data-tile=${name}] dd`);
    const isCount = typeof value === "number";
    shown.textContent = isCount ? words.short(value) : value;
    if (isCount && value >= words.LONG) shown.title = words.integer(value);
    else shown.removeAttribute("title");
    beside.textContent = note;
  };
  const bins = merged(sums.latency);
  root.querySelector("[data-tile=requests] dt").textContent = label;
  const earlier = before && total(Array.from(counted(before, q.count)));
  put("requests", all, before ? `${words.change(all, earlier)} against ${words.short(earlier)}` : "");
  const requests = total(sums.requests);
  const refused = total(sums.rejected);
  const errors = total(sums.requests.map((_, i) => failed(sums, i)));
  put("refused", refused, `${words.percent(refused, requests)} of requests`);
  put("errors", errors, `${words.percent(errors, requests)} of requests`);
  put("p95", words.latency(quantile(bins, 0.95)), bins ? `p50 ${words.latency(quantile(bins, 0.5))}, p99 ${words.latency(quantile(bins, 0.99))}` : "not told apart by what is counted");
}

async function update() {
  const turn = ++asked;
  const q = question(form, end);
  for (const field of form.querySelectorAll(".custom")) field.hidden = form.elements.range.value !== "custom";
  try {
    const result = await answer(q).catch((error) => {
      if (!(error instanceof Changed)) throw error;
      forget();
      return answer(q);
    });
    if (turn !== asked) return; // somebody chose something else meanwhile
    shown = { q, result };
    root.querySelector(".found").hidden = false;
    show(q, result);
    const none = result.sums.seen.some((seen) => seen) ? "" : "Nothing was sent in this range. ";
    said.textContent = none + (q.tooOld ? "Hours are kept for 31 days; shown by day." : "");
    root.dataset.ready = String(turn);
    openAhead(q);
  } catch (error) {
    if (turn !== asked) return;
    if (/404/.test(error.message)) {
      said.textContent = "There is no data to explore yet: it follows within minutes of the first request.";
      return;
    }
    said.textContent = `The data could not be read (${error.message}). Reload the page; its files lie in data/ beside it.`;
  }
}

// What is shown, as CSV that a table program opens: one that would be taken for a formula gets a '.
function csv() {
  const { q, result } = shown;
  const names = ["requests", "rejected", "status_5", "bytes_in", "bytes_out"];
  const safe = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
  const quoted = (text) => (/[",;\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const fixed = [q.client, q.endpoint, q.tier].map((text) => quoted(safe(text)));
  const lines = result.edge.slice(0, -1).flatMap((minute, i) =>
    result.known[i] ? [[new Date(minute * 60000).toISOString(), ...fixed, ...names.map((name) => result.sums[name][i])].join(",")] : [],
  );
  const blob = new Blob([`time,client,endpoint,tier,${names.join(",")}\r\n`, lines.join("\r\n"), "\r\n"], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `usage-by-${q.grain}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", () => {
  toAddress(form);
  update();
});
form.querySelector("[data-csv]").addEventListener("click", csv);
form.querySelector("[data-clear]").addEventListener("click", () => {
  form.reset();
  toAddress(form);
  update();
});
window.addEventListener("popstate", () => {
  fromAddress(form);
  update();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && show(shown.q, shown.result));
let waiting = 0;
window.addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(fit);
});
fromAddress(form);
update();
