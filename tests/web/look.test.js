// What observations look like, how much of them is kept, and that everybody can read it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, test } from "node:test";
import { close, connected, open, reset, rows, serve, shows, texts, until } from "./stage.js";

after(close);

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Lets the page see another observation than its server sends. */
const showing = (observation, schemas) => async (page) => {
  if (schemas) await page.route("**/schema", (route) => route.fulfill({ json: schemas }));
  await page.routeWebSocket("**/ws", (socket) => {
    socket.connectToServer().onMessage((text) => {
      const message = JSON.parse(text);
      if (message.type !== "observation") return socket.send(text);
      // A text may hold what JSON.stringify cannot write.
      const told = typeof observation === "string" ? observation : JSON.stringify(observation);
      return socket.send(`{"type":"observation","data":{"observation":${told},"reward":null,"done":false}}`);
    });
  });
};

const pixel = (page, selector, x, y) =>
  page.locator(selector).first().evaluate((canvas, [x, y]) => [...canvas.getContext("2d").getImageData(x, y, 1, 1).data], [x, y]);

test("screens are images", async (test) => {
  const { base } = await serve(test, "echo");
  const height = 30;
  const width = 20;
  const at = (x, y) => [x * 10, y * 8, x === y ? 255 : 0];
  const nested = Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => at(x, y)));
  const first = [0, 1, 2].flatMap((channel) => nested.flat().map((one) => one[channel]));
  // One black pixel.
  const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";
  const page = await connected(await open(test, base, {
    // The test looks at the pixels, not the page.
    allowed: /willReadFrequently/,
    prepare: showing({
      screen: nested.flat(2), screen_shape: [height, width, 3],
      first, first_shape: [3, height, width],
      grey: nested.flat().map(([red]) => red / 255), grey_shape: [height, width],
      nested,
      wide: Array.from({ length: 70 }, (_, y) => Array.from({ length: 80 }, (_, x) => x + y)),
      pixels: png,
      wrong: [1, 2, 3], wrong_shape: [7, 7, 3],
    }),
  }));
  await reset(page);
  const canvas = (name) => `#observation figure:has(figcaption:text-matches("^${name} ")) canvas`;
  for (const name of ["screen", "first", "nested"]) {
    assert.deepEqual(await pixel(page, canvas(name), 3, 4), [30, 32, 0, 255], name);
    assert.deepEqual(await pixel(page, canvas(name), 7, 7), [70, 56, 255, 255], name);
  }
  assert.deepEqual(await pixel(page, canvas("grey"), 3, 4), [30, 30, 30, 255]);
  assert.deepEqual(await pixel(page, canvas("wide"), 79, 69), [148, 148, 148, 255]);
  await until("the picture to be there", () => page.locator("#observation img").evaluate((img) => img.naturalWidth === 1));
  await page.locator("#observation dt", { hasText: /^wrong$/ }).waitFor();
});

test("outputs are shown as they were printed, boards as grids, numbers as they are", async (test) => {
  const { base } = await serve(test, "echo");
  const observation = `{
    "stdout": "  one\\n\\ttwo\\n", "stderr": "", "exit_code": 0,
    "grid": [0, 1, 2, 3, 2, 1], "width": 3, "height": 2,
    "letters": [["a", "b"], ["c", "."]],
    "ragged": [[1, 2], [3]],
    "large": 12345678901234567890, "exact": 0.1, "none": null, "metadata": {}
  }`;
  const page = await connected(await open(test, base, { prepare: showing(observation) }));
  await reset(page);
  assert.equal(await page.locator("#observation pre.printed").first().textContent(), "  one\n\ttwo\n");
  await shows(page, "#observation pre.failed", "(empty)");
  const grids = await page.locator("table.grid").evaluateAll((tables) =>
    tables.map((table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent))));
  assert.deepEqual(grids, [[["0", "1", "2"], ["3", "2", "1"]], [["a", "b"], ["c", "."]]]);
  const facts = Object.fromEntries(await page.locator(".facts > div").evaluateAll((found) =>
    found.map((one) => [one.firstChild.textContent, one.lastChild.textContent])));
  assert.equal(facts.large, "12345678901234567890", "no digit is lost");
  assert.deepEqual([facts.exact, facts.none, facts.exit_code], ["0.1", "null", "0"]);
  assert.equal("metadata" in facts, false, "what is empty is not shown");
  await page.getByText("As JSON").click();
  await shows(page, "#observation details pre", '"large": 12345678901234567890');
});

test("what no form can be made of is typed as JSON, and bounds are kept to", async (test) => {
  const { base } = await serve(test, "echo");
  const action = {
    type: "object",
    required: ["count", "sure"],
    properties: {
      count: { type: "integer", minimum: 1, maximum: 3 },
      share: { anyOf: [{ type: "number", exclusiveMinimum: 0 }, { type: "null" }], default: null },
      sure: { type: "boolean" },
      loud: { type: "boolean", default: true },
      level: { $ref: "#/$defs/Level" },
      kind: { const: "move" },
      moves: { type: "array", items: { type: "integer" } },
    },
    $defs: { Level: { enum: ["low", "high"], type: "string" } },
  };
  const sent = [];
  const page = await connected(await open(test, base, {
    prepare: async (page) => {
      await showing({}, { action, observation: {}, state: {} })(page);
      page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => sent.push(JSON.parse(payload))));
      await page.routeWebSocket("**/ws", (socket) => {
        socket.onMessage((text) => {
          const message = JSON.parse(text);
          if (message.type === "step") sent.push(message);
          socket.send(JSON.stringify(message.type === "mcp" ? { type: "mcp", data: {} } : { type: "observation", data: { observation: {}, reward: 0, done: false } }));
        });
      });
    },
  }));
  await page.getByLabel("count").fill("4");
  await page.click("#step");
  await page.locator("#action-form .error", { hasText: "has to be at least 1, at most 3" }).waitFor();
  await page.getByLabel("count").fill("2");
  await page.getByLabel("share").fill("0");
  await page.click("#step");
  await page.locator("#action-form .error", { hasText: "has to be more than 0" }).waitFor();
  await page.getByLabel("share").fill("0.25");
  await page.getByLabel("level").selectOption("high");
  await page.getByLabel("moves").fill("[1, 2]");
  assert.deepEqual(await texts(page, "#action-form .required"), [" *", " *"]);
  await page.click("#step");
  await shows(page, "#shown-step", /^1$/);
  const steps = sent.filter(({ type }) => type === "step");
  assert.deepEqual(steps.at(-1).data, { count: 2, sure: false, share: 0.25, level: "high", kind: "move", moves: [1, 2] });
});

test("an action that is one of several is typed as a whole", async (test) => {
  const { base } = await serve(test, "echo");
  const action = { anyOf: [{ type: "object", properties: { a: {} } }, { type: "object", properties: { b: {} } }] };
  const page = await connected(await open(test, base, { prepare: showing({ seen: 1 }, { action, observation: {}, state: {} }) }));
  await page.getByLabel("as JSON").fill('{"message": "x"}');
  await page.click("#step");
  await shows(page, "#shown-step", /^1$/);
  await page.getByLabel("as JSON").fill('{"b": 1}');
  await page.click("#step");
  await shows(page, "#action-error", "message: Field required; b: Extra inputs are not permitted");
});

test("the log and the curve are bounded", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base));
  await reset(page);
  await page.getByLabel("message").fill("x");
  let steps = 0;
  while (steps < 1004) {
    // As many as may wait at once.
    const more = Math.min(8, 1004 - steps);
    await page.evaluate((more) => {
      for (let count = 0; count < more; count += 1) document.getElementById("action-form").requestSubmit();
    }, more);
    steps += more;
    await shows(page, "#shown-step", new RegExp(`^${steps}$`));
  }
  const log = await rows(page);
  assert.deepEqual([log.length, log[0][0], log.at(-1)[0]], [1000, "1004", "5"]);
  await page.getByLabel("1004 steps, in all 100.4").waitFor();
  assert.equal((await page.locator("#curve path.each").getAttribute("d")).split("M").length, 1001);
  await shows(page, "#shown-total", /^100\.4$/);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  assert.equal((await readFile(await download.path(), "utf8")).trimEnd().split("\n").length, 1000);
});

test("old observations are let go of when they are large", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base, { prepare: showing({ text: "x".repeat(9 << 20) }) }));
  await reset(page);
  await page.getByLabel("message").fill("x");
  for (let step = 1; step <= 4; step += 1) {
    await page.click("#step");
    await shows(page, "#shown-step", new RegExp(`^${step}$`));
  }
  await page.getByRole("button", { name: "Show the observation of step 1" }).click();
  await shows(page, "#observation", "not kept any more");
  await page.getByRole("button", { name: "Show the observation of step 4" }).click();
  await shows(page, "#observation", "more characters");
});

/** Lets axe judge the page, before and after a game. */
const judged = async (test, colorScheme, width) => {
  const { base } = await serve(test, "connect4");
  const page = await connected(await open(test, base, { colorScheme, viewport: { width, height: 800 } }));
  const judge = async (when) => {
    const found = await page.evaluate(() => window.axe.run());
    assert.deepEqual(found.violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], when);
  };
  await page.evaluate(await readFile(AXE, "utf8"));
  await judge("at first");
  await reset(page);
  for (const [at, column] of [3, 2, 3, 2, 3, 2, 3].entries()) {
    await page.getByLabel("column").fill(String(column));
    await page.click("#step");
    await shows(page, "#shown-step", new RegExp(`^${at + 1}$`));
  }
  await page.getByText("As JSON").click();
  await judge("at the end of a game");
  const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(beyond, 0, "nothing stands beyond the side");
  const cells = await page.locator("#log").evaluate((log) => {
    const range = document.createRange();
    // A word that has no room is broken into lines, of which each is a box.
    return [...log.querySelectorAll("th, td")].filter((cell) => {
      range.selectNodeContents(cell);
      return new Set([...range.getClientRects()].map(({ bottom }) => Math.round(bottom))).size > 1 && cell.childElementCount === 0;
    }).map((cell) => cell.textContent);
  });
  assert.deepEqual(cells, [], "no short word is broken");
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${colorScheme}-${width}.png`, fullPage: true });
};

test("everybody can read it: light, wide", (test) => judged(test, "light", 1280));
test("everybody can read it: light, narrow", (test) => judged(test, "light", 320));
test("everybody can read it: dark, wide", (test) => judged(test, "dark", 1280));
test("everybody can read it: dark, narrow", (test) => judged(test, "dark", 320));

if (process.env.IMAGE) {
  test("a picture of the page", async (test) => {
    const { base } = await serve(test, "grid_world");
    const page = await connected(await open(test, base, { viewport: { width: 1200, height: 1000 } }));
    await reset(page);
    const ways = ["RIGHT", "RIGHT", "DOWN", "DOWN", "DOWN", "RIGHT", "DOWN", "RIGHT"];
    for (const [at, way] of ways.entries()) {
      await page.locator("#action-form").getByLabel("action").selectOption(way);
      await page.click("#step");
      await shows(page, "#shown-step", new RegExp(`^${at + 1}$`));
    }
    await page.locator("#curve svg").waitFor();
    await page.screenshot({ path: process.env.IMAGE, fullPage: true });
  });
}
