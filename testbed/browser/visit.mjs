// Opens one page, uses it as told, and prints what happened as JSON.
//
// usage: node visit.mjs '{"url": "...", "javascript": true, "count": ["table"], "steps": [{"click": "button"}]}'
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const visit = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  // A container has no user namespaces for the sandbox; the pages are our own.
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
});

// In the page: what is wider than its place, cut off, or written over something else.
function broken() {
  const found = [];
  const seen = (element) => element.getClientRects().length > 0;
  const what = (element) => `<${element.tagName.toLowerCase()}> ${element.textContent.trim().slice(0, 40)}`;
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) found.push("the page scrolls sideways");
  for (const element of document.querySelectorAll("h1, h2, h3, p, li, dt, dd, a, button, label, select, summary, .tag, .tile, .panel")) {
    if (!seen(element) || element.closest(".scroll")) continue;
    if (element.tagName !== "SELECT" && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline") {
      found.push(`wider than its place: ${what(element)}`);
    }
  }
  for (const plot of document.querySelectorAll("svg.plot")) {
    const texts = [...plot.querySelectorAll(":scope > g text")].filter(seen);
    const boxes = texts.map((text) => text.getBoundingClientRect());
    const around = plot.closest("figure").getBoundingClientRect();
    boxes.forEach((a, i) => {
      if (a.left < around.left || a.right > around.right) found.push(`a label leaves its chart: ${what(texts[i])}`);
      boxes.slice(i + 1).forEach((b, j) => {
        const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
        if (!apart) found.push(`labels lie over one another: ${what(texts[i])}, ${what(texts[i + 1 + j])}`);
      });
    });
  }
  for (const table of document.querySelectorAll("table")) {
    const wrong = [...table.querySelectorAll("th, td")].find((cell) => seen(cell) && cell.scrollWidth > cell.clientWidth + 1);
    if (wrong) found.push(`wider than its cell: ${what(wrong)}`);
  }
  return found;
}

// In the page: where focus is, and what is wrong with it there.
function focused() {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const first = at.dataset.stop !== undefined;
  at.dataset.stop = "";
  const style = getComputedStyle(at);
  const box = at.getBoundingClientRect();
  const name = `<${at.tagName.toLowerCase()}> ${(at.textContent || at.name || "").trim().slice(0, 40)}`;
  const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
  const inSight = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  const problem = !shown ? `focus does not show: ${name}` : inSight ? null : `focus is out of sight: ${name}`;
  return { first, problem };
}

// One thing that a reader does: {name: argument}.
const acts = {
  click: (page, selector) => page.click(selector),
  choose: (page, [selector, value]) => page.selectOption(selector, value),
  fill: (page, [selector, text]) => page.fill(selector, text),
  press: (page, key) => page.keyboard.press(key),
  back: (page) => page.goBack(),
  wait: (page, selector) => page.waitForSelector(selector, { timeout: 120000 }),
  note: async (page, selector, seen) => seen.notes.push((await page.locator(selector).allInnerTexts()).join("\n")),
  run: async (page, script, seen) => {
    const value = await page.evaluate(script);
    if (value !== undefined) seen.notes.push(String(value));
  },
  save: async (page, selector, seen) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
    seen.notes.push(await readFile(await download.path(), "utf8"));
  },
  // The same as a file, named as the page names it, in a folder.
  keep: async (page, [selector, folder], seen) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
    const file = `${folder}/${download.suggestedFilename()}`;
    await download.saveAs(file);
    seen.notes.push(file);
  },
  // Opens the page again, as on a processor so many times slower and without anything kept.
  slower: async (page, times) => {
    const session = await page.context().newCDPSession(page);
    await session.send("Emulation.setCPUThrottlingRate", { rate: times });
    await session.send("Network.clearBrowserCache");
    await page.goto(page.url(), { waitUntil: "load", timeout: 120000 });
  },
  goto: (page, url) => page.goto(url, { waitUntil: "load", timeout: 120000 }),
  // Whatever a reader would see as broken, noted down under a name.
  looks: async (page, name, seen) => {
    for (const problem of await page.evaluate(broken)) seen.notes.push(`${name}: ${problem}`);
  },
  // Presses Tab until focus leaves the page; notes each stop that shows no focus or lies out of sight.
  tabs: async (page, most, seen) => {
    await page.evaluate(() => document.activeElement?.blur());
    let stops = 0;
    for (; stops < most; stops++) {
      await page.keyboard.press("Tab");
      const stop = await page.evaluate(focused);
      if (!stop || (stop.first && stops > 0)) break;
      if (stop.problem) seen.notes.push(stop.problem);
    }
    seen.notes.push(`${stops} stops`);
  },
  pdf: (page, file) => page.pdf({ path: file, format: "A4" }),
  axe: async (page, name, seen) => {
    // As the test's own script, not the page's: its CSP refuses all others.
    const require = createRequire(import.meta.url);
    const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run());
    for (const one of found.violations) {
      seen.notes.push(`${name ? name + ": " : ""}${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
    }
  },
  view: async (page, { width, dark, print, motion }) => {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({
      colorScheme: dark ? "dark" : "light",
      media: print ? "print" : "screen",
      reducedMotion: motion ? "no-preference" : "reduce",
    });
    // What a page does when it is resized, it does before the second picture from now on.
    const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    if (visit.javascript) await page.evaluate(drawn);
  },
  shoot: (page, file) => page.screenshot({ path: file, fullPage: true }),
};

try {
  const context = await browser.newContext({
    javaScriptEnabled: visit.javascript,
    viewport: { width: 1280, height: 900 },
    reducedMotion: "reduce",
    extraHTTPHeaders: visit.headers,
  });
  const page = await context.newPage();
  const seen = { console: [], requests: [], failed: [], notes: [] };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) seen.console.push(message.text());
  });
  page.on("pageerror", (error) => seen.console.push(String(error)));
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("requestfailed", (request) => seen.failed.push(request.url()));
  page.on("dialog", (dialog) => {
    seen.console.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  const answer = await page.goto(visit.url, { waitUntil: "load", timeout: 120000 });
  for (const step of visit.steps) {
    const [[name, argument]] = Object.entries(step);
    await acts[name](page, argument, seen);
  }
  const count = {};
  for (const selector of visit.count) count[selector] = await page.locator(selector).count();
  const result = {
    status: answer.status(),
    url: page.url(),
    title: await page.title(),
    text: await page.locator("body").innerText(),
    links: await page.locator("a[href]").evaluateAll((links) => links.map((a) => a.href)),
    count,
    ...seen,
  };
  process.stdout.write(JSON.stringify(result));
} finally {
  await browser.close();
}
