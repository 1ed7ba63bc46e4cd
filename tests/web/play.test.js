// The environments that come with Hothouse, played by hand.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, test } from "node:test";
import { close, connected, open, reset, rows, serve, serveAll, shows, texts } from "./stage.js";

after(close);

const say = async (page, message, step) => {
  await page.getByRole("textbox", { name: /^message/ }).fill(message);
  await page.click("#step");
  await shows(page, "#shown-step", new RegExp(`^${step}$`));
};

const go = async (page, way, step) => {
  await page.locator("#action-form").getByLabel("action").selectOption(way);
  await page.click("#step");
  await shows(page, "#shown-step", new RegExp(`^${step}$`));
};

test("echo: what is said is shown, counted, drawn, logged and downloaded", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base, { path: "/" }));
  assert.equal(new URL(page.url()).pathname, "/web/");
  assert.equal(await page.title(), "echo");
  await shows(page, "h1", "echo");
  await shows(page, "#version", "1.0.0");
  await shows(page, "#description", "Echoes a message");
  await page.getByLabel("episode_id").fill("by hand");
  await page.getByLabel("seed").fill("7");
  await reset(page);
  await shows(page, "#observation", "Echo environment ready!");
  await shows(page, "#state-text", '"episode_id": "by hand"');
  await say(page, "abc", 1);
  await say(page, "more than ten characters", 2);
  await shows(page, "#observation", "more than ten characters");
  await shows(page, "#shown-reward", /^1$/);
  await shows(page, "#shown-total", /^1\.3$/);
  await shows(page, "#shown-done", "no");
  await shows(page, "#state-text", '"step_count": 2');
  assert.deepEqual(await rows(page), [
    ["2", '{"message":"more than ten characters"}', "1", ""],
    ["1", '{"message":"abc"}', "0.3", ""],
    ["0", "reset", "0", ""],
  ]);
  const curve = page.locator("#curve svg");
  await curve.and(page.getByLabel("2 steps, in all 1.3, the last one 1")).waitFor();
  assert.deepEqual(await texts(page, "#curve rect title"), ["step 1: 0.3, in all 0.3", "step 2: 1, in all 1.3"]);
  assert.deepEqual(await texts(page, "#curve text.axis"), ["step", "reward"]);

  await page.getByRole("button", { name: "Show the observation of step 1" }).click();
  await shows(page, "#observation-title", "Observation of step 1");
  await shows(page, "#observation", "abc");
  await shows(page, "#shown-total", /^0\.3$/);
  await page.getByText("Back to the newest").click();
  await shows(page, "#observation", "more than ten characters");

  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  assert.equal(download.suggestedFilename(), "echo-by_hand.jsonl");
  const lines = (await readFile(await download.path(), "utf8")).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ step, action, reward, done }) => [step, action, reward, done]), [
    [0, null, 0, false],
    [1, { message: "abc" }, 3 * 0.1, false],
    [2, { message: "more than ten characters" }, 1, false],
  ]);
  assert.equal(lines[1].observation.echoed_message, "abc");

  await reset(page);
  assert.equal((await rows(page)).length, 1, "another episode has another log");
  await shows(page, "#curve", "No step has been taken");
});

test("grid_world: to the goal, where nothing can be done but begin anew", async (test) => {
  const { base } = await serve(test, "grid_world");
  const page = await connected(await open(test, base));
  await page.click("#step");
  await shows(page, "#action-error", "the episode has not begun; reset first");
  await reset(page);
  const ways = ["DOWN", "DOWN", "RIGHT", "DOWN", "DOWN", "RIGHT", "RIGHT", "RIGHT"];
  for (const [at, way] of ways.entries()) await go(page, way, at + 1);
  await shows(page, "#shown-done", "yes");
  await shows(page, "#shown-total", /^0\.3$/);
  await shows(page, "#over", "The episode is over");
  assert.equal(await page.locator("#step").isDisabled(), true);
  assert.equal(await page.locator("#action-form").getByLabel("action").isDisabled(), true);
  assert.equal(await page.evaluate(() => document.activeElement.id), "reset", "what comes next has the focus");
  const board = await page.locator("table.place tr").evaluateAll((lines) => lines.map((line) => [...line.cells].map((cell) => cell.textContent).join("") || "."));
  assert.deepEqual(board, [".", ".", ".", ".", "●"]);
  assert.equal(await page.locator("table.place tr").last().locator("td").last().textContent(), "●");
  const bars = page.locator("#curve rect.each");
  await bars.nth(7).waitFor();
  assert.equal(await bars.count(), 8);
  assert.equal((await page.locator("#curve polyline").getAttribute("points")).split(" ").length, 9);
  assert.deepEqual((await rows(page))[0], ["8", '{"action":"RIGHT"}', "1", "done"]);
  await reset(page);
  assert.equal(await page.locator("#step").isEnabled(), true);
  await go(page, "DOWN", 1);
});

test("clicks that come faster than answers are steps in their order", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base));
  await page.getByRole("textbox", { name: /^message/ }).fill("x");
  await page.evaluate(() => {
    const [form, field] = [document.getElementById("action-form"), document.querySelector("#action-form textarea")];
    document.getElementById("reset-form").requestSubmit();
    for (const text of ["a", "b", "c"]) {
      field.value = text;
      form.requestSubmit();
    }
  });
  await shows(page, "#shown-step", /^3$/);
  assert.deepEqual((await rows(page)).map(([step, action]) => [step, action]), [
    ["3", '{"message":"c"}'], ["2", '{"message":"b"}'], ["1", '{"message":"a"}'], ["0", "reset"],
  ]);
});

test("connect4: a whole game on the board", async (test) => {
  const { base } = await serve(test, "connect4");
  const page = await connected(await open(test, base));
  await page.click("#step");
  await shows(page, "#action-form .error", "a number is needed");
  await reset(page);
  for (const [at, column] of [3, 2, 3, 2, 3, 2, 3].entries()) {
    await page.getByLabel("column").fill(String(column));
    await page.getByLabel("column").press("Enter");
    await shows(page, "#shown-step", new RegExp(`^${at + 1}$`));
  }
  const board = await page.locator("table.grid tr").evaluateAll((lines) => lines.map((line) => [...line.cells].map((cell) => Number(cell.textContent))));
  assert.deepEqual(board.map((line) => [line[2], line[3]]), [[0, 0], [0, 0], [0, 1], [-1, 1], [-1, 1], [-1, 1]]);
  assert.deepEqual(board.map((line) => line.length), [7, 7, 7, 7, 7, 7]);
  await shows(page, "#shown-done", "yes");
  await shows(page, "#shown-total", /^1$/);
  const pieces = await page.locator("table.grid .tone-1").allTextContents();
  assert.deepEqual(pieces, ["1", "1", "1", "1"], "a player's pieces have a colour of their own");
});

test("echo_mcp: each tool has a form, and a step may call one too", async (test) => {
  const { base } = await serve(test, "echo_mcp");
  const page = await connected(await open(test, base));
  const tool = (name) => page.locator("details.tool", { hasText: name });
  assert.deepEqual(await texts(page, "details.tool summary code"), ["echo_message", "echo_with_length"]);
  await shows(page, "details.tool .hint", "Echo back the message.");
  await tool("echo_message").getByRole("textbox", { name: /^message/ }).fill("by hand");
  await page.getByRole("button", { name: "Call echo_message" }).click();
  await shows(page, "details.tool .result", /^by hand$/);
  await tool("echo_with_length").locator("summary").first().click();
  await tool("echo_with_length").getByRole("textbox", { name: /^message/ }).fill("four");
  await page.getByRole("button", { name: "Call echo_with_length" }).click();
  await tool("echo_with_length").locator(".result", { hasText: '"length":4' }).waitFor();
  await reset(page);
  await page.getByLabel("tool_name").fill("echo_message");
  await page.getByLabel("arguments").fill('{"message": "as a step"}');
  await page.click("#step");
  await shows(page, "#observation", "as a step");
  await page.getByLabel("arguments").fill("{oops");
  await page.click("#step");
  await page.locator("#action-form .error", { hasText: "is no JSON" }).waitFor();
  await page.getByLabel("arguments").fill("{}");
  await page.click("#step");
  await shows(page, "#observation", "invalid_args");
});

test("an environment without tools shows none", async (test) => {
  const { base } = await serve(test, "tic_tac_toe");
  const page = await connected(await open(test, base));
  assert.equal(await page.locator("#tools").isVisible(), false);
});

test("what the server refuses stands at its field", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base));
  await page.getByText("More").click();
  await page.getByLabel("metadata").fill("[1]");
  await page.getByRole("textbox", { name: /^message/ }).fill("x");
  await page.click("#step");
  await page.locator(".field", { has: page.getByLabel("metadata") }).locator(".error", { hasText: "valid dictionary" }).waitFor();
  assert.equal(await page.getByLabel("metadata").getAttribute("aria-invalid"), "true");
  assert.equal(await page.evaluate(() => document.activeElement.name), "metadata", "the field has the focus");
  await page.getByLabel("metadata").fill('{"a": 12345678901234567890}');
  await page.click("#step");
  await shows(page, "#shown-step", /^1$/);
  assert.equal(await page.getByLabel("metadata").getAttribute("aria-invalid"), null);
  await page.getByLabel("seed").fill("1.5");
  await page.click("#reset");
  await shows(page, "#reset-form .error", "has to be a whole number");
});

test("below a server of all environments the page is the same", async (test) => {
  const { base } = await serveAll(test);
  const page = await connected(await open(test, base, { path: "/openenv/echo/web" }));
  assert.equal(new URL(page.url()).pathname, "/openenv/echo/web/");
  await reset(page);
  await say(page, "down here", 1);
  await shows(page, "#observation", "down here");
  const links = await page.locator("nav a").evaluateAll((found) => found.map((link) => new URL(link.href).pathname));
  assert.deepEqual(links, ["/openenv/echo/docs", "/openenv/echo/openapi.json"]);
  for (const link of links) assert.equal((await page.request.get(`${base}${link}`)).status(), 200, link);
});
