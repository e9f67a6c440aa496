// Rows to steps of time, under filters.

const HOUR = 60;
const DAY = 24 * HOUR;
const MONDAY = 4 * DAY; // 1 January 1970 was a Thursday
export const BIN_BASE = 1.02;
const BINS = 2400;

// Edges of the steps in minutes since the epoch, all of UTC's calendar.
export function edges(grain, from, to) {
  const found = [];
  if (grain === "month") {
    const first = new Date(from * 60000);
    for (let n = 0; ; n++) {
      const at = Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + n) / 60000;
      found.push(at);
      if (at >= to) return found;
    }
  }
  const step = { hour: HOUR, day: DAY, week: 7 * DAY }[grain];
  const origin = grain === "week" ? MONDAY : 0;
  for (let at = Math.floor((from - origin) / step) * step + origin; ; at += step) {
    found.push(at);
    if (at >= to) return found;
  }
}

// Counts by bin, of the bins from `first` on: most others are empty.
class Bins {
  constructor() {
    this.counts = new Float64Array(0);
    [this.first, this.all] = [0, 0];
  }
  add(bin, count) {
    const asked = Math.min(bin, BINS - 1);
    let at = asked - this.first;
    if (at < 0 || at >= this.counts.length) {
      this.hold(asked);
      at = asked - this.first;
    }
    this.counts[at] += count;
    this.all += count;
  }
  hold(bin) {
    const { first, counts } = this;
    const room = Math.max(32, counts.length);
    const has = counts.length > 0;
    this.first = has && bin >= first ? first : Math.max(0, bin - room);
    const last = Math.max(has ? first + counts.length - 1 : 0, bin + (has && bin < first ? 0 : room));
    this.counts = new Float64Array(last - this.first + 1);
    this.counts.set(counts, has ? first - this.first : 0);
  }
}

function finder(edge) {
  const step = edge[1] - edge[0];
  const even = edge.every((at, i) => at === edge[0] + i * step);
  if (even) return (minute) => Math.floor((minute - edge[0]) / step);
  return (minute) => {
    let i = edge.length - 1;
    while (i >= 0 && edge[i] > minute) i--;
    return i;
  };
}

// Calls `each` with number and count of every pair (see analytics/src/cube.rs).
export function pairs(bytes, each) {
  let [at, number] = [0, 0];
  while (at < bytes.length) {
    let [grown, count] = [0, 0];
    for (let scale = 1, more = true; more; scale *= 128) {
      const byte = bytes[at++];
      grown += (byte & 127) * scale;
      more = byte > 127;
    }
    for (let scale = 1, more = true; more; scale *= 128) {
      const byte = bytes[at++];
      count += (byte & 127) * scale;
      more = byte > 127;
    }
    number += grown;
    each(number, count);
  }
}

// Sums of each column per step. `filters` are column -> wanted text.
export function sum(rows, columns, filters, edge, from = edge[0], to = edge[edge.length - 1]) {
  const steps = edge.length - 1;
  const out = { seen: new Uint8Array(steps), latency: null, codes: null };
  for (const name of columns) out[name] = new Float64Array(steps);
  if (!rows.length) return out;
  const wanted = [];
  for (const [name, text] of Object.entries(filters)) {
    const code = rows[name].names.indexOf(text);
    if (code < 0) return out;
    wanted.push([rows[name].values, code]);
  }
  if (rows.latency) out.latency = Array.from({ length: steps }, () => null);
  if (rows.status) out.codes = Array.from({ length: steps }, () => new Map());
  const step = finder(edge);
  const minutes = rows.minute.values;
  for (let i = 0; i < rows.length; i++) {
    const minute = minutes[i];
    if (minute < from || minute >= to) continue;
    if (wanted.some(([values, code]) => values[i] !== code)) continue;
    const at = step(minute);
    out.seen[at] = 1;
    for (const name of columns) out[name][at] += rows[name].values[i];
    if (out.latency) {
      const bins = (out.latency[at] ??= new Bins());
      pairs(rows.latency.values[i], (bin, count) => bins.add(bin, count));
    }
    if (out.codes) {
      const codes = out.codes[at];
      pairs(rows.status.values[i], (code, count) => codes.set(code, (codes.get(code) ?? 0) + count));
    }
  }
  return out;
}

// The q quantile in microseconds by the nearest-rank rule, as weir-analytics tells it.
export function quantile(bins, q) {
  if (!bins || bins.all === 0) return null;
  const rank = Math.max(1, Math.ceil(q * bins.all));
  let seen = 0;
  for (let i = 0; i < bins.counts.length; i++) {
    seen += bins.counts[i];
    const bin = bins.first + i;
    if (seen >= rank) return bin <= 0 ? 1 : BIN_BASE ** (bin - 0.5);
  }
  return null;
}

export function merged(list) {
  let all = null;
  for (const bins of list ?? []) {
    if (!bins) continue;
    all ??= new Bins();
    bins.counts.forEach((count, i) => count > 0 && all.add(bins.first + i, count));
  }
  return all;
}
