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

// One thing that a reader does: {name: argument}.
const acts = {
  click: (page, selector) => page.click(selector),
  choose: (page, [selector, value]) => page.selectOption(selector, value),
  fill: (page, [selector, text]) => page.fill(selector, text),
  press: (page, key) => page.keyboard.press(key),
  back: (page) => page.goBack(),
  wait: (page, selector) => page.waitForSelector(selector, { timeout: 30000 }),
  note: async (page, selector, seen) => seen.notes.push((await page.locator(selector).allInnerTexts()).join("\n")),
  run: async (page, script, seen) => {
    const value = await page.evaluate(script);
    if (value !== undefined) seen.notes.push(String(value));
  },
  save: async (page, selector, seen) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
    seen.notes.push(await readFile(await download.path(), "utf8"));
  },
  axe: async (page, _, seen) => {
    // As the test's own script, not the page's: its CSP refuses all others.
    const require = createRequire(import.meta.url);
    const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run());
    for (const one of found.violations) {
      seen.notes.push(`${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
    }
  },
  view: async (page, { width, dark, print }) => {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light", media: print ? "print" : "screen" });
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
  const answer = await page.goto(visit.url, { waitUntil: "load", timeout: 30000 });
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
