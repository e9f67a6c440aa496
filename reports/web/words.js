// Numbers and moments as people read them, like the pages that weir renders.

const separated = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, useGrouping: false });

export const integer = (n) => separated.format(n);

// As in the tiles that weir renders: what is too long for a narrow phone is rounded.
export const LONG = 1e8;
export const short = (n) => (n < LONG ? integer(n) : compact(n));

const scaled = (n, base, units) => {
  let unit = 0;
  while (Math.abs(n) >= base * 0.9995 && unit < units.length - 1) {
    n /= base;
    unit++;
  }
  return `${three.format(n)}${units[unit] ? " " + units[unit] : ""}`;
};

export const compact = (n) => scaled(n, 1000, ["", "k", "M", "G", "T", "P"]);
export const bytes = (n) => scaled(n, 1000, ["B", "kB", "MB", "GB", "TB", "PB"]);

export function latency(us) {
  if (us === null || us === undefined) return "–";
  return us < 1e6 ? (us < 1000 ? `${three.format(us)} µs` : `${three.format(us / 1000)} ms`) : `${three.format(us / 1e6)} s`;
}

export const percent = (part, whole) => (whole > 0 ? `${three.format((100 * part) / whole)} %` : "–");

export function change(now, before) {
  if (!(before > 0)) return "nothing to compare with";
  const grown = (100 * (now - before)) / before;
  return `${grown < 0 ? "−" : "+"}${three.format(Math.abs(grown))} %`;
}

// A formatter takes longer to make than a thousand moments to format.
function once(make) {
  const made = new Map();
  return (...asked) => {
    const key = asked.join(" ");
    if (!made.has(key)) made.set(key, make(...asked));
    return made.get(key);
  };
}

export const moments = once((zone) => {
  const make = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options });
  const [full, day, month] = [
    make({ day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" }),
    make({ day: "numeric", month: "short", year: "numeric" }),
    make({ month: "short", year: "numeric" }),
  ];
  return (minute, grain) => ({ hour: full, month })[grain]?.format(minute * 60000) ?? day.format(minute * 60000);
});

// Labels of the time axis: the day where one begins, else the time of day.
export const ticks = once((zone, grain) => {
  const make = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options });
  const time = make({ hour: "2-digit", minute: "2-digit" });
  const day = make(grain === "month" ? { month: "short", year: "numeric" } : { day: "numeric", month: "short" });
  return (minute) => {
    const at = time.format(minute * 60000);
    return at === "00:00" || grain !== "hour" ? day.format(minute * 60000) : at;
  };
});
