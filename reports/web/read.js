// Parquet files of this page's folder, read in parts: the footer, then the columns and row groups
// that a question needs. What was read is kept, so that the next filter costs no request.
import { parquetMetadataAsync, parquetRead } from "hyparquet";
import { decompress } from "fzstd";

const compressors = { ZSTD: (input, length) => decompress(input, new Uint8Array(length)) };
const TEXTS = new Set(["client", "endpoint", "tier"]);
const PAIRS = new Set(["latency", "status"]);
const opened = new Map();
const kept = new Map();

const TAIL = 65536;

// New data was published while the page was open: what is known of the old file means nothing in it.
export class Changed extends Error {}

export function forget() {
  opened.clear();
  kept.clear();
}

const stamp = (answer) => answer.headers.get("ETag") ?? answer.headers.get("Last-Modified");

// The file as hyparquet wants it. Its end, where the footer is, comes with its length in one request;
// a server that knows no ranges sends all of it.
async function buffer(url) {
  const get = async (range) => {
    const answer = await fetch(url, { headers: { Range: `bytes=${range}` }, cache: "no-store" });
    if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
    return answer;
  };
  const first = await get(`-${TAIL}`);
  const end = await first.arrayBuffer();
  const told = /\/(\d+)$/.exec(first.headers.get("Content-Range") ?? "");
  const byteLength = first.status === 206 && told ? Number(told[1]) : end.byteLength;
  const have = byteLength - end.byteLength;
  const slice = async (from, to = byteLength) => {
    if (from >= have) return end.slice(from - have, to - have);
    const answer = await get(`${from}-${to - 1}`);
    if (stamp(answer) !== stamp(first)) throw new Changed(url);
    return answer.arrayBuffer();
  };
  return { byteLength, slice };
}

async function open(url) {
  const file = await buffer(url);
  const metadata = await parquetMetadataAsync(file);
  const schema = metadata.schema.slice(1).map((element) => element.name);
  return { file, metadata, schema };
}

function once(map, key, make) {
  if (!map.has(key)) {
    const made = make();
    map.set(key, made);
    made.catch(() => map.delete(key)); // the next try asks again
  }
  return map.get(key);
}

// As the file is sorted: by the bytes of UTF-8.
const bytes = (value) => (value instanceof Uint8Array ? value : new TextEncoder().encode(value));
const text = (value) => (value instanceof Uint8Array ? new TextDecoder().decode(value) : String(value));

function order(a, b) {
  const both = Math.min(a.length, b.length);
  for (let i = 0; i < both; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

// First and last row of the row groups that may hold what is wanted, each a pair of column and text.
function rowsOf({ metadata, schema }, wanted) {
  const sought = wanted.map(([name, value]) => [schema.indexOf(name), bytes(value)]);
  const may = (group) =>
    sought.every(([column, value]) => {
      const { min_value: least, max_value: most } = group.columns[column].meta_data.statistics ?? {};
      return (least === undefined || order(bytes(least), value) <= 0) && (most === undefined || order(value, bytes(most)) <= 0);
    });
  let at = 0;
  let [start, end] = [Infinity, 0];
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows);
    if (may(group)) {
      start = Math.min(start, at);
      end = at + rows;
    }
    at += rows;
  }
  return start < end ? [start, end] : [0, 0];
}

// Texts become numbers: position in a list of names. Rows are sorted, so most are the one before.
function coded(values) {
  const codes = new Int32Array(values.length);
  const known = new Map();
  let [last, code] = [undefined, -1];
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== last) {
      last = values[i];
      const name = text(last);
      if (!known.has(name)) known.set(name, known.size);
      code = known.get(name);
    }
    codes[i] = code;
  }
  return { values: codes, names: [...known.keys()] };
}

const kindOf = (name) => (name === "minute" ? Int32Array : TEXTS.has(name) || PAIRS.has(name) ? Array : Float64Array);

// Columns by name, asked for together: neighbours in the file come with one request.
async function columns(source, names, [rowStart, rowEnd]) {
  const all = Object.fromEntries(names.map((name) => [name, new (kindOf(name))(rowEnd - rowStart)]));
  await parquetRead({
    file: source.file,
    metadata: source.metadata,
    columns: names,
    rowStart,
    rowEnd,
    compressors,
    utf8: false,
    onChunk: ({ columnName, columnData, rowStart: at }) => {
      const into = all[columnName];
      const [skipped, to] = [Math.max(0, rowStart - at), Math.max(0, at - rowStart)];
      const most = Math.min(columnData.length - skipped, into.length - to);
      for (let i = 0; i < most; i++) into[to + i] = columnData[skipped + i];
    },
  });
  for (const name of names) all[name] = TEXTS.has(name) ? coded(all[name]) : { values: all[name] };
  return all;
}

export const ahead = (url) => once(opened, url, () => open(url));

// Columns of a file by name, all rows or those of the row groups that may hold what is `wanted`,
// text by column.
export async function read(url, names, wanted = {}) {
  const source = await ahead(url);
  const rows = rowsOf(source, Object.entries(wanted));
  const found = { length: rows[1] - rows[0] };
  if (found.length === 0) return found;
  const key = (name) => `${url} ${name} ${rows}`;
  const missing = names.filter((name) => !kept.has(key(name)));
  if (missing.length) {
    const made = columns(source, missing, rows);
    for (const name of missing) once(kept, key(name), () => made.then((all) => all[name]));
  }
  for (const name of names) found[name] = await kept.get(key(name));
  return found;
}
