// The page's session: lost, refused, closed, and opened again. And a page that is used without a pointer.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, connected, open, reset, rows, serve, shows } from "./stage.js";

after(close);

/** What the browser itself says of a server that is not there. */
const GONE = /WebSocket connection to .* failed|ERR_CONNECTION_REFUSED/;

test("a server that is killed is missed, and found again", async (test) => {
  const first = await serve(test, "grid_world");
  const page = await connected(await open(test, first.base, { allowed: GONE }));
  await reset(page);
  await page.click("#step");
  await shows(page, "#shown-step", /^1$/);
  await first.kill();
  await page.locator("#connection.closed").waitFor();
  await shows(page, "#connection-text", "The connection to the server is lost.");
  assert.equal(await page.locator("#step").isDisabled(), true);
  assert.equal(await page.locator("#reset").isDisabled(), true);
  assert.equal((await rows(page)).length, 2, "what happened can still be read");

  await page.getByRole("button", { name: "Reconnect" }).click();
  await page.locator("#connection.closed").waitFor();
  await serve(test, "grid_world", "--port", first.port);
  await page.getByRole("button", { name: "Reconnect" }).click();
  await connected(page);
  assert.equal(await page.locator("#reconnect").isVisible(), false);
  await page.click("#step");
  await shows(page, "#action-error", "reset first");
  await reset(page);
  await page.click("#step");
  await shows(page, "#shown-step", /^1$/);
  assert.equal(await page.locator("#action-error").textContent(), "");
});

test("a server that ends in order says so", async (test) => {
  const server = await serve(test, "echo");
  const page = await connected(await open(test, server.base, { allowed: GONE }));
  await server.kill("SIGTERM");
  await shows(page, "#connection-text", "the server is shutting down");
});

test("a server at capacity says so, and has a place when another goes", async (test) => {
  const { base } = await serve(test, "echo", "--capacity", "1");
  const first = await connected(await open(test, base));
  const second = await open(test, base);
  await second.locator("#connection.closed").waitFor();
  await shows(second, "#connection-text", "The server is at capacity: 1 of 1 sessions are in use.");
  await first.close();
  for (;;) {
    // The place is free a moment after the page is gone.
    await second.getByRole("button", { name: "Reconnect" }).click();
    await second.locator("#connection:is(.open, .closed)").waitFor();
    if (await second.locator("#connection.open").count()) break;
  }
  await reset(second);
});

test("a session that was idle for too long is closed with its reason", async (test) => {
  const { base } = await serve(test, "echo", "--idle-timeout", "1s");
  const page = await connected(await open(test, base));
  await page.locator("#connection.closed").waitFor();
  await shows(page, "#connection-text", "was not used for 1s");
  await page.getByRole("button", { name: "Reconnect" }).click();
  await connected(page);
});

test("all can be done by keys alone", async (test) => {
  const { base } = await serve(test, "grid_world");
  const page = await connected(await open(test, base));
  const focus = () => page.evaluate(() => {
    const { id, name, textContent } = document.activeElement;
    return id && !id.startsWith("field-") ? id : name || textContent;
  });
  /** Tabs until this has the focus. */
  const reach = async (wanted, key = "Tab") => {
    const seen = [];
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press(key);
      seen.push(await focus());
      if (seen.at(-1) === wanted) return;
    }
    assert.fail(`${wanted} is not reached by ${key}: ${seen.join(", ")}`);
  };
  await reach("seed");
  await page.keyboard.type("3");
  await page.keyboard.press("Enter");
  await shows(page, "#shown-step", /^0$/);
  await reach("action");
  // An arrow chooses: UP, DOWN, LEFT, RIGHT.
  await page.keyboard.press("ArrowDown");
  await reach("step");
  for (let step = 1; step <= 4; step += 1) {
    await page.keyboard.press("Enter");
    await shows(page, "#shown-step", new RegExp(`^${step}$`));
    assert.equal(await focus(), "step", "the focus stays");
  }
  await reach("action", "Shift+Tab");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await reach("step");
  for (let step = 5; step <= 8; step += 1) {
    await page.keyboard.press("Enter");
    await shows(page, "#shown-step", new RegExp(`^${step}$`));
  }
  await shows(page, "#shown-done", "yes");
  assert.equal(await focus(), "reset");
  await reach("6");
  await page.keyboard.press("Enter");
  await shows(page, "#observation-title", "Observation of step 6");
  await reach("newest", "Shift+Tab");
  await page.keyboard.press("Space");
  await shows(page, "#observation-title", /^Observation$/);
});

test("a text of several lines is sent by Ctrl+Enter", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base));
  await page.getByLabel("message").focus();
  await page.keyboard.type("one");
  await page.keyboard.press("Enter");
  await page.keyboard.type("two");
  await page.keyboard.press("Control+Enter");
  await shows(page, "#shown-step", /^1$/);
  await shows(page, "#observation", "one\ntwo");
});
