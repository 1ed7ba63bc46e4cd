// What the tests of the page share: the real program, a real browser, and pages that are watched.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";

/** The longest wait for anything. Far more than it takes, since a busy machine is no mistake. */
const PATIENCE = 60_000;

const BINARY = process.env.HOTHOUSE_BINARY;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Chromium as root in a closed network: no sandbox of its own, and nothing that it would ask Google. */
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** Waits until this gives something. */
export const until = async (what, holds) => {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${PATIENCE} ms for ${what}`);
    await pause(20);
  }
};

/** Starts the program; it says where it listens and is ended with the test. */
const start = async (test, flags) => {
  const home = await mkdtemp(join(tmpdir(), "hothouse-web-"));
  const child = spawn(BINARY, flags, { env: { ...process.env, HOTHOUSE_HOME: home }, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  let [said, complained] = ["", ""];
  child.stdout.on("data", (data) => { said += data; });
  child.stderr.on("data", (data) => { complained = `${complained}${data}`.slice(-4000); });
  const kill = async (signal = "SIGKILL") => {
    child.kill(signal);
    await ended;
  };
  test.after(async () => {
    await kill("SIGTERM");
    await rm(home, { recursive: true, force: true });
  });
  const base = await until(`${flags.join(" ")} to listen`, () => {
    assert.equal(child.exitCode, null, `it ended: ${complained}`);
    return said.match(/https?:\/\/[\d.:]+/)?.[0];
  });
  return { base, kill, port: new URL(base).port };
};

/** Serves one environment. */
export const serve = (test, name, ...flags) =>
  start(test, ["env", "serve", name, ...(flags.includes("--port") ? [] : ["--port", "0"]), ...flags]);

/** Serves all of them, beside everything else. */
export const serveAll = (test) =>
  start(test, ["serve", "--listen", "127.0.0.1:0", "--cgroup", `hothouse-web-${process.pid}`]);

let browser;

/** The browser of this file's tests. */
export const browse = async () => {
  browser ??= await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: PATIENCE });
  return browser;
};

export const close = async () => browser?.close();

/**
 * Opens a page and watches it: what it writes to the console, what it asks for elsewhere, what its policy forbids.
 * `prepare` is called before it is loaded. With the test's end all of that has to be nothing, but for what `allowed` fits.
 */
export const open = async (test, base, { path = "/web/", prepare, allowed, ...options } = {}) => {
  const context = await (await browse()).newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const wrong = [];
  const note = (text) => {
    if (!allowed?.test(text)) wrong.push(text);
  };
  const { origin, host } = new URL(base);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) note(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => note(`error: ${error.stack}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== origin && !["data:", "blob:"].includes(url.protocol)) note(`request: ${url}`);
  });
  page.on("websocket", (socket) => {
    if (new URL(socket.url()).host !== host) note(`socket: ${socket.url()}`);
  });
  await page.exposeFunction("forbidden", (text) => note(`policy: ${text}`));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) =>
      window.forbidden(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  await prepare?.(page);
  await page.goto(`${base}${path}`);
  test.after(async () => {
    await context.close();
    assert.deepEqual(wrong, [], "the page was not as quiet as it has to be");
  });
  return page;
};

/** Waits until an element shows this text: a string in it, or a pattern. */
export const shows = (page, selector, wanted) =>
  until(`${selector} to show ${wanted}`, async () => {
    const text = await page.locator(selector).first().textContent().catch(() => "");
    return wanted instanceof RegExp ? wanted.test(text) : text.includes(wanted);
  });

/** Waits until the page has its session. */
export const connected = async (page) => {
  await page.locator("#connection.open").waitFor();
  return page;
};

export const reset = async (page) => {
  await page.click("#reset");
  await shows(page, "#shown-step", /^0$/);
};

/** The texts of all that fit a selector. */
export const texts = (page, selector) => page.locator(selector).allTextContents();

/** The log's rows, each as its cells. */
export const rows = (page) =>
  page.locator("#log tbody tr").evaluateAll((found) => found.map((row) => [...row.cells].map((cell) => cell.textContent)));
