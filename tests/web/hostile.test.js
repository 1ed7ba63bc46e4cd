// Whatever an environment says is text: its name, its schema, its tools, its observations. The same attack on a page that
// does not hold to that has to succeed, or it proves nothing.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { close, connected, open, reset, serve, shows, until } from "./stage.js";

after(close);

/** Runs wherever it is taken for markup. */
const ATTACK = '"><img src=x onerror="window.hacked=(window.hacked??0)+1"><svg onload="window.hacked=(window.hacked??0)+1"></svg>'
  + '<script>window.hacked=1</script><a href="javascript:window.hacked=1">x</a>';

const SCHEMA = {
  type: "object",
  title: ATTACK,
  description: ATTACK,
  required: ["message"],
  properties: {
    message: { type: "string", title: ATTACK, description: ATTACK },
    [ATTACK]: { type: "string", default: ATTACK, description: ATTACK },
    __proto__: { type: "string", description: "a field like others" },
    constructor: { enum: [ATTACK, `${ATTACK}2`], default: ATTACK },
    reference: { $ref: "#/$defs/__proto__/toString" },
    circle: { $ref: "#/$defs/circle" },
  },
  $defs: { circle: { $ref: "#/$defs/circle" } },
};
// A literal would set the prototype.
Object.defineProperty(SCHEMA.properties, "__proto__", { value: { type: "string" }, enumerable: true });

const OBSERVATION = {
  [ATTACK]: ATTACK,
  stdout: ATTACK,
  stderr: `${ATTACK}\n${ATTACK}`,
  board: [["<b>", "<i>"], ["<u>", "<s>"]],
  picture: `data:image/svg+xml;base64,${Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" onload="parent.hacked=1"/>`).toString("base64")}`,
  image: "data:text/html;base64,PHNjcmlwdD5oYWNrZWQ9MTwvc2NyaXB0Pg==",
  nested: { [ATTACK]: [ATTACK] },
  metadata: { [ATTACK]: ATTACK },
};

const TOOL = { name: ATTACK, description: ATTACK, inputSchema: SCHEMA };

/** Stands between the page and its server, and says hostile things in its name. */
const poison = async (page) => {
  const json = (body) => (route) => route.fulfill({ json: body });
  const metadata = { name: ATTACK, description: ATTACK, version: ATTACK, readme_content: `# ${ATTACK}\n${ATTACK}`, author: ATTACK };
  await page.route("**/metadata", json(metadata));
  await page.route("**/list_environments", json([ATTACK]));
  await page.route("**/schema", json({ action: SCHEMA, observation: SCHEMA, state: SCHEMA }));
  await page.routeWebSocket("**/ws", (socket) => {
    const server = socket.connectToServer();
    server.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.type === "mcp") {
        const isList = message.data.id === 1;
        const result = isList ? { tools: [TOOL, {}, null] } : { content: [{ type: "text", text: ATTACK }] };
        message.data = { jsonrpc: "2.0", id: message.data.id, result };
      }
      if (message.type === "observation") message.data = { observation: OBSERVATION, reward: ATTACK, done: false };
      if (message.type === "state") message.data = { episode_id: ATTACK, [ATTACK]: ATTACK };
      if (message.type === "error") message.data = { message: ATTACK, code: ATTACK, errors: [{ loc: [ATTACK, ATTACK], msg: ATTACK }, { loc: ["other"], msg: ATTACK }] };
      socket.send(JSON.stringify(message));
    });
  });
};

/** The page as it would be if what is said entered it as markup. */
const careless = (keepsPolicy) => async (page) => {
  await poison(page);
  const made = {
    "element.js": ["node.append(...children);", "for (const child of children) { if (typeof child === 'string') node.insertAdjacentHTML('beforeend', child); else node.append(child); }"],
    "page.js": [".textContent = ", ".innerHTML = "],
  };
  for (const [name, [from, to]] of Object.entries(made)) {
    await page.route(`**/web/${name}`, async (route) => {
      const response = await route.fetch();
      const text = await response.text();
      assert.ok(text.includes(from), `${name} has no ${from}`);
      await route.fulfill({ response, body: text.replaceAll(from, to) });
    });
  }
  await page.route("**/web/", async (route) => {
    const response = await route.fetch();
    const headers = { ...response.headers() };
    if (!keepsPolicy) delete headers["content-security-policy"];
    await route.fulfill({ response, headers });
  });
};

/** Lets everything be shown that there is. */
const play = async (page) => {
  await reset(page);
  await page.locator("#action-form textarea[name=message]").fill(ATTACK);
  await page.click("#step");
  await shows(page, "#shown-step", /^1$/);
  await page.locator("#log button").first().click();
  for (const summary of await page.locator("summary:visible").all()) await summary.click();
  await page.click("#state");
};

test("hostile names, schemas, tools and observations are text", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base, { prepare: poison }));
  await play(page);
  assert.equal(await page.title(), ATTACK);
  for (const place of ["h1", "#version", "#description", "#readme-text", "#state-text", ".tool summary code", ".tool .hint", "#action-form label", "#action-form .hint", "#observation pre.printed", "#observation dt"]) {
    await until(`${place} to show it`, async () =>
      (await page.locator(place).allTextContents()).some((text) => text.includes(ATTACK) || text.includes(JSON.stringify(ATTACK))));
  }
  await shows(page, "#log td.action", JSON.stringify(ATTACK).slice(0, 60));
  await page.locator(".tool").first().evaluate((tool) => { tool.open = true; });
  await page.locator(".tool textarea[name=message]").first().fill("x");
  await page.locator(".tool button").first().click();
  await shows(page, ".tool .result", ATTACK);
  const made = await page.evaluate(() => ({
    hacked: window.hacked,
    elements: document.querySelectorAll("body script, body img, body svg, body a:not(nav a), body [onerror], body [onload], iframe, object").length,
    foreign: [...document.querySelectorAll("[src], [href]")].map((node) => node.getAttribute("src") ?? node.getAttribute("href"))
      .filter((place) => !["icon.svg", "page.css", "page.js", "../docs", "../openapi.json"].includes(place)),
  }));
  assert.deepEqual(made, { hacked: undefined, elements: 1, foreign: [] }, "the curve is the only drawing");
});

test("hostile errors are text, at their field or by the form", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await connected(await open(test, base, { prepare: poison }));
  await page.locator("#action-form textarea[name=message]").fill("x");
  await page.locator("#action-form select[name=constructor]").selectOption({ index: 1 });
  await page.click("#step");
  await shows(page, "#action-error", ATTACK);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

test("the same attack succeeds on a careless page without a policy", async (test) => {
  const { base } = await serve(test, "echo");
  const page = await open(test, base, { prepare: careless(false), allowed: /./ });
  await until("the attack to succeed", () => page.evaluate(() => window.hacked > 0));
});

test("the policy alone holds the same attack off a careless page", async (test) => {
  const { base } = await serve(test, "echo");
  const seen = [];
  const page = await open(test, base, {
    prepare: async (page) => {
      await careless(true)(page);
      page.on("console", (message) => seen.push(message.text()));
      page.on("pageerror", (error) => seen.push(error.message));
    },
    allowed: /./,
  });
  await until("the policy to be broken", () => seen.some((text) => text.includes("TrustedHTML")));
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

test("a page of another site may not show this one in a frame", async (test) => {
  const { base } = await serve(test, "echo");
  // Another site, on another port.
  const other = createServer((request, response) => {
    const place = new URL(request.url, "http://other").searchParams.get("place");
    response.writeHead(200, { "content-type": "text/html" }).end(`<link rel="icon" href="data:,"><iframe src="${base}${place}"></iframe>`);
  });
  await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
  test.after(() => other.close());
  const site = `http://127.0.0.1:${other.address().port}`;
  const framed = async (place) => {
    const page = await open(test, site, { path: `/?place=${place}`, allowed: /^request: |frame-ancestors|ERR_BLOCKED/ });
    return page.frames()[1].url();
  };
  assert.equal(await framed("/health"), `${base}/health`, "what does not forbid it is shown");
  assert.match(await framed("/web/"), /^chrome-error:/);
});
