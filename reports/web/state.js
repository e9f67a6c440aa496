// The form and the address say the same, so that an address can be sent to somebody else and the back
// button goes back.

export const RANGES = { "24h": 1, "7d": 7, "30d": 30, "90d": 90, "365d": 365 };
const DAY = 1440;
// Their values are escaped in the form, plain in the address.
const ESCAPED = new Set(["client", "endpoint", "tier"]);
const NAMES = ["range", "from", "to", "grain", "client", "endpoint", "tier", "count", "compare"];

export function fromAddress(form) {
  const asked = new URLSearchParams(location.search);
  for (const name of NAMES) {
    const field = form.elements[name];
    if (!field) continue;
    const plain = asked.get(name) ?? field.dataset.default ?? "";
    const value = ESCAPED.has(name) ? encodeURIComponent(plain) : plain;
    // A client that no longer is among the options is still what was asked for.
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) {
      if (!asked.get(name)) continue;
      field.add(new Option(plain, value));
    }
    field.value = value;
  }
}

export function toAddress(form) {
  const asked = new URLSearchParams(location.search);
  for (const name of NAMES) {
    const field = form.elements[name];
    const stays = field && field.value && field.value !== (field.dataset.default ?? "");
    const isOfRange = (name === "from" || name === "to") && form.elements.range.value !== "custom";
    if (stays && !isOfRange) asked.set(name, ESCAPED.has(name) ? decodeURIComponent(field.value) : field.value);
    else asked.delete(name);
  }
  const query = asked.toString();
  const address = location.pathname + (query ? `?${query}` : "");
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
}

const minuteOf = (text) => Math.floor(Date.parse(text.length > 10 ? `${text}Z` : `${text}T00:00Z`) / 60000);

// What is asked, in minutes since the epoch; `end` is where the data ends.
export function question(form, end) {
  const value = (name) => form.elements[name]?.value ?? "";
  const text = (name) => decodeURIComponent(value(name));
  let [from, to] = [end - RANGES[value("range")] * DAY, end];
  if (value("range") === "custom") {
    const given = [minuteOf(value("from")), minuteOf(value("to"))];
    to = Number.isNaN(given[1]) ? end : given[1];
    from = Number.isNaN(given[0]) ? to - 7 * DAY : given[0];
  }
  if (from >= to) [from, to] = [to - DAY, to];
  const days = (to - from) / DAY;
  const earlier = (span) => ({ previous: span, week: 7 * DAY })[value("compare")] ?? 0;
  // What it is compared with has to be there by the hour too.
  const isRecent = from - earlier(to - from) >= end - 31 * DAY;
  let grain = value("grain");
  if (!grain) grain = days <= 8 && isRecent ? "hour" : days <= 120 ? "day" : days <= 400 ? "week" : "month";
  const tooOld = grain === "hour" && !isRecent;
  if (tooOld) grain = "day";
  if (grain !== "hour") [from, to] = [Math.floor(from / DAY) * DAY, Math.ceil(to / DAY) * DAY];
  return { from, to, grain, tooOld, shift: earlier(to - from), count: value("count"), client: text("client"), endpoint: text("endpoint"), tier: text("tier") };
}
