// What is so now, asked of the gateways every few seconds. Where none answers, the page says up to
// when it knows, and no number becomes zero.
import { bytes, integer } from "./words.js";

const EVERY = 5000;

async function ask(url) {
  const answer = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(EVERY) });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

const clock = (at) => at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function line(name, value, note) {
  const item = document.createElement("div");
  item.className = "tile";
  const parts = ["dt", "dd", "dd"].map((tag) => document.createElement(tag));
  [name, value, note].forEach((text, i) => (parts[i].textContent = text));
  parts[2].className = "note";
  item.append(...parts);
  return item;
}

const amount = (limit, n) => (limit.unit.startsWith("bytes") ? bytes(n) : integer(n));

// A client's own limits: what is left of each.
function ownUsage(usage) {
  return usage.limits.map((limit) =>
    line(limit.limit, `${amount(limit, limit.remaining)} left`, `some comes back in ${integer(limit.reset_s)} s`),
  );
}

// All gateways together: what they decided per second since the last answer.
function together(answers, last, seconds) {
  const sum = (list, pick) => list.reduce((n, one) => n + pick(one ?? {}), 0);
  const of = (list, wanted) => sum(list, (one) => Object.entries(one.weir_requests ?? {}).reduce((n, [decision, count]) => n + (decision.match(wanted) ? count : 0), 0));
  const rate = (wanted) => {
    if (!last) return "…";
    const grown = of(answers, wanted) - of(last, wanted);
    // A gateway that began anew counts from zero again.
    return grown < 0 ? "…" : `${integer(grown / seconds)}/s`;
  };
  return [
    line("Requests", rate(/./), "all gateways together"),
    line("Refused", rate(/^REJECTED(_DEGRADED)?$/), "over a limit"),
    line("Degraded", rate(/_DEGRADED$/), "decided without the shared limits"),
    line("Gateways", integer(answers.length), "answered"),
  ];
}

export function live(section) {
  const urls = section.dataset.live.split(" ");
  const list = section.querySelector("dl");
  const said = section.querySelector("[role=status]");
  let last = null;
  let lastAt = 0;
  async function turn() {
    const now = new Date();
    const settled = await Promise.allSettled(urls.map(ask));
    const ours = (one) => one.status === "fulfilled" && (!one.value.limits || encodeURIComponent(one.value.client) === section.dataset.client);
    const answers = settled.flatMap((one) => (ours(one) ? [one.value] : []));
    section.hidden = false;
    if (answers.length === 0) {
      said.textContent = `Not live now. Data to ${section.dataset.to}.`;
      list.replaceChildren();
      last = null;
    } else {
      const silent = urls.length - answers.length;
      const whole = silent ? `, without ${silent} of ${urls.length} gateways, which did not answer` : "";
      said.textContent = `Live, as of ${clock(now)}${whole}`;
      const isUsage = Array.isArray(answers[0].limits);
      const same = last?.length === answers.length ? last : null;
      list.replaceChildren(...(isUsage ? ownUsage(answers[0]) : together(answers, same, (now - lastAt) / 1000)));
      [last, lastAt] = [answers, now];
    }
    setTimeout(turn, document.hidden ? EVERY * 6 : EVERY);
  }
  turn();
}
