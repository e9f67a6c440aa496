// Opens one page and prints what happened as JSON.
//
// usage: node visit.mjs '{"url": "...", "javascript": true, "count": ["table"], "screenshot": "x.png"}'
import { chromium } from "playwright-core";

const visit = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  // A container has no user namespaces for the sandbox; the pages are our own.
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
});
try {
  const context = await browser.newContext({ javaScriptEnabled: visit.javascript });
  const page = await context.newPage();
  const seen = { console: [], requests: [], failed: [] };
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
  const count = {};
  for (const selector of visit.count) count[selector] = await page.locator(selector).count();
  if (visit.screenshot) await page.screenshot({ path: visit.screenshot, fullPage: true });
  const result = {
    status: answer.status(),
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
