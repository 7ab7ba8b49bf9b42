// Chromium for the tests: it notes what goes wrong on a page, and which hosts the page asks.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const TIMEOUT = 60_000;
const DESKTOP = { width: 1280, height: 860 };
export const PHONE = { width: 390, height: 844 };

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

function chromiumPath() {
  const found = process.env.PATH.split(delimiter)
    .map((folder) => join(folder, "chromium")).find((path) => existsSync(path));
  assert.ok(found, "chromium is not installed");
  return found;
}

/** What a page may ask for, and the problems that are expected on it. */
export class Visitor {
  constructor(page, origins) {
    this.page = page;
    this.problems = [];
    this.requests = [];
    /** Parts of messages in the console that are expected. */
    this.expected = [];
    page.on("console", (message) => {
      const isExpected = this.expected.some((text) => message.text().includes(text));
      if (["error", "warning"].includes(message.type()) && !isExpected) {
        this.problems.push(`console: ${message.text()} (${message.location().url})`);
      }
    });
    page.on("pageerror", (error) => this.problems.push(`exception: ${error.stack}`));
    page.on("request", (request) => {
      this.requests.push(request);
      const { protocol, origin } = new URL(request.url());
      if (!["data:", "blob:"].includes(protocol) && !origins.includes(origin)) {
        this.problems.push(`another host was asked: ${request.url()}`);
      }
    });
  }

  /** Asserts that people with any kind of device can use the page as it is now. */
  async isAccessible(what) {
    await this.isLoaded();
    await this.page.evaluate(axe);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run());
    const found = violations.map(({ id, help, nodes }) =>
      `${id}: ${help}: ${nodes.map(({ html }) => html).slice(0, 3).join(" ")}`);
    assert.deepEqual(found, [], `accessibility of ${what}`);
  }

  /** Waits until the page is not dimmed, as it is while the next one loads. */
  async isLoaded() {
    // A click on a link takes effect a moment later.
    await this.page.evaluate(() =>
      new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    await this.page.waitForFunction(() => !document.querySelector("[aria-busy=true]"));
  }

  /** Asserts that nothing is wider than the screen. */
  async fits(what) {
    await this.isLoaded();
    const [width, room] = await this.page.evaluate(() =>
      [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok(width <= room, `${what} is ${width} wide, the screen ${room}`);
  }

  /** Writes a picture of what is seen, if pictures are asked for. */
  async picture(name) {
    const folder = process.env.SOUK_PICTURES;
    if (!folder) return;
    const devtools = await this.page.context().newCDPSession(this.page);
    const options = { format: "webp", quality: 82 };
    const { data } = await devtools.send("Page.captureScreenshot", options);
    writeFileSync(join(folder, `${name}.webp`), Buffer.from(data, "base64"));
  }
}

/** Runs `visit` with a `Visitor` who may only ask `origins`; each has a browser context alone. */
export async function browse(origins, visit, { viewport = DESKTOP, ...rest } = {}) {
  const browser = await chromium.launch({
    executablePath: chromiumPath(),
    args: ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"],
  });
  try {
    const options = { viewport, locale: "en-US", timezoneId: "UTC", reducedMotion: "reduce" };
    const context = await browser.newContext({ ...options, ...rest });
    context.setDefaultTimeout(TIMEOUT);
    const visitor = new Visitor(await context.newPage(), origins);
    await visit(visitor);
    assert.deepEqual(visitor.problems, []);
  } finally {
    await browser.close();
  }
}
