// Parquet files of this page's folder, read in parts: the footer, then the columns and row groups
// that a question needs. What was read is kept, so that the next filter costs no request.
import { parquetMetadataAsync, parquetRead } from "hyparquet";
import { decompress } from "fzstd";

const compressors = { ZSTD: (input, length) => decompress(input, new Uint8Array(length)) };
const TEXTS = new Set(["client", "endpoint", "tier"]);
const opened = new Map();
const kept = new Map();

const TAIL = 65536;

// The file as hyparquet wants it. Its end, where the footer is, comes with its length in one request;
// a server that knows no ranges sends all of it.
async function buffer(url) {
  const get = async (range) => {
    const answer = await fetch(url, { headers: { Range: `bytes=${range}` } });
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
    return (await get(`${from}-${to - 1}`)).arrayBuffer();
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

// First and last row of the row groups that may hold this client.
function rowsOf({ metadata, schema }, client) {
  const column = schema.indexOf("client");
  let at = 0;
  let [start, end] = [Infinity, 0];
  for (const group of metadata.row_groups) {
    const stats = group.columns[column].meta_data.statistics ?? {};
    const least = text(stats.min_value ?? "");
    const most = text(stats.max_value ?? "\uffff");
    const rows = Number(group.num_rows);
    if (client === null || (least <= client && client <= most)) {
      start = Math.min(start, at);
      end = at + rows;
    }
    at += rows;
  }
  return start < end ? [start, end] : [0, 0];
}

const text = (value) => (value instanceof Uint8Array ? new TextDecoder().decode(value) : String(value));

// Texts become numbers: position in a list of names.
function coded(values, names) {
  const codes = new Int32Array(values.length);
  const known = new Map(names.map((name, code) => [name, code]));
  for (let i = 0; i < values.length; i++) {
    let code = known.get(values[i]);
    if (code === undefined) {
      code = names.push(values[i]) - 1;
      known.set(values[i], code);
    }
    codes[i] = code;
  }
  return codes;
}

async function column(source, name, [rowStart, rowEnd]) {
  const chunks = [];
  await parquetRead({
    file: source.file,
    metadata: source.metadata,
    columns: [name],
    rowStart,
    rowEnd,
    compressors,
    utf8: false,
    onChunk: (chunk) => chunks.push(chunk),
  });
  chunks.sort((a, b) => a.rowStart - b.rowStart);
  const all = new (name === "minute" ? Int32Array : TEXTS.has(name) || name === "latency" || name === "status" ? Array : Float64Array)(rowEnd - rowStart);
  for (const { columnData, rowStart: at } of chunks) {
    for (let i = 0; i < columnData.length; i++) {
      const to = at + i - rowStart;
      if (to >= 0 && to < all.length) all[to] = columnData[i];
    }
  }
  if (!TEXTS.has(name)) return { values: all };
  const names = [];
  return { values: coded(all.map(text), names), names };
}

// Columns of a file by name, all rows or those of the row groups that hold one client.
export async function read(url, names, client = null) {
  const source = await once(opened, url, () => open(url));
  const rows = rowsOf(source, client);
  const found = { length: rows[1] - rows[0] };
  if (found.length === 0) return found;
  await Promise.all(
    names.map(async (name) => {
      const key = `${url} ${name} ${rows}`;
      found[name] = await once(kept, key, () => column(source, name, rows));
    }),
  );
  return found;
}
