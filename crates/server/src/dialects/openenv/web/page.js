// The page of an environment: one session, played by hand.

import { Curve, short } from "./curve.js";
import { byId, element } from "./element.js";
import { Fields, sendsByKey } from "./form.js";
import { compact, cut, parse, pretty } from "./json.js";
import { Log, rewardText } from "./log.js";
import { shown } from "./observation.js";
import { Lost, Refusal, Session } from "./session.js";
import { toolForm } from "./tools.js";

/** Things to do that wait at once; a further one is a key that is held down. */
const MOST_WAITING = 8;
/** Characters of a state that are shown. */
const MOST_STATE = 20_000;
/** Forms of tools at most. */
const MOST_TOOLS = 200;

/** The environment's own paths lie beside this page. */
const base = new URL("..", location.href);

const RESET = {
  properties: {
    seed: { type: "integer", description: "The same one draws the same" },
    episode_id: { type: "string", description: "A name of your own" },
  },
};

const schemas = {};
const resetFields = new Fields(RESET);
let actionFields;
let session;
/** What is being done; whatever comes next waits for it. */
let doing = Promise.resolve();
let waiting = 0;
/** The episode: steps taken, and what the newest one showed. */
let episode = { id: "", steps: 0, newest: undefined };

const curve = new Curve(byId("curve"));
const log = new Log(byId("log"), (row, data) => look(row, data));

const read = async (path) => {
  const answer = await fetch(new URL(path, base));
  if (!answer.ok) throw new Error(`${path}: HTTP status ${answer.status}`);
  return parse(await answer.text());
};

const tell = (text) => {
  byId("told").textContent = text;
};

const figure = (name, text) => {
  byId(`shown-${name}`).textContent = text;
};

/** Shows what came of a step. */
const look = (row, data) => {
  const isNewest = row === episode.newest;
  byId("observation-title").textContent = isNewest ? "Observation" : `Observation of step ${row.step}`;
  byId("newest").hidden = isNewest;
  figure("step", String(row.step));
  figure("reward", rewardText(row.reward));
  figure("total", short(row.total));
  figure("done", row.done ? "yes" : "no");
  const node = data === undefined
    ? element("p", { class: "hint" }, "This observation is not kept any more; the newest ones are.")
    : shown(data?.observation, row.step === 0 ? schemas.reset_observation ?? schemas.observation : schemas.observation);
  byId("observation").replaceChildren(node);
};

const setOver = (isOver) => {
  byId("action-fields").disabled = isOver;
  byId("step").disabled = isOver;
  byId("over").hidden = !isOver;
  // What had the focus cannot keep it; what can be done next gets it.
  if (isOver) byId("reset").focus();
};

/** Takes in what came of a reset (step 0) or a step. */
const take = (step, action, { data, text }) => {
  const [reward, done] = [data?.reward ?? null, data?.done === true];
  if (step === 0) {
    log.clear();
    curve.clear();
    tell("A new episode has begun.");
  } else {
    curve.add(Number(reward ?? 0) || 0);
    tell(`Step ${step}: reward ${rewardText(reward)}${done ? ", the episode is over" : ""}.`);
  }
  const row = { step, action, reward, done, total: curve.total, text };
  episode.steps = step;
  episode.newest = row;
  log.add(row);
  byId("download").disabled = false;
  look(row, data);
  setOver(done);
};

const refreshState = async () => {
  const error = byId("state-error");
  try {
    const { data } = await session.ask({ type: "state" });
    error.textContent = "";
    if (typeof data?.episode_id === "string") episode.id = data.episode_id;
    byId("state-text").textContent = cut(pretty(data), MOST_STATE);
  } catch (failure) {
    error.textContent = failure.message;
  }
};

/** Does one thing after the other, and tells at the form what went wrong. */
const inTurn = (form, error, fields, act) => {
  if (waiting >= MOST_WAITING) return;
  waiting += 1;
  form.setAttribute("aria-busy", "true");
  doing = doing.then(async () => {
    error.textContent = "";
    try {
      await act();
    } catch (failure) {
      const isRefused = failure instanceof Refusal && failure.errors.length > 0;
      const others = isRefused ? fields.refuse(failure.errors) : [];
      // A mistake of the page's own; it is told like others, and where those who mend it look.
      if (!(failure instanceof Refusal || failure instanceof Lost)) console.error(failure);
      // What stands at its field is not said again.
      error.textContent = isRefused ? others.join("; ") : failure.message;
      tell(isRefused ? "The server refused a field." : "");
    }
    waiting -= 1;
    if (waiting === 0) for (const id of ["reset-form", "action-form"]) byId(id).removeAttribute("aria-busy");
  });
};

byId("reset-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = resetFields.read();
  if (given === undefined) return;
  inTurn(event.target, byId("reset-error"), resetFields, async () => {
    take(0, undefined, await session.ask({ type: "reset", data: given }));
    byId("action-error").textContent = "";
    refreshState();
  });
});

byId("action-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!actionFields || byId("step").disabled) return;
  const action = actionFields.read();
  if (action === undefined) return;
  inTurn(event.target, byId("action-error"), actionFields, async () => {
    // A step that waited while the last one ended the episode.
    if (byId("step").disabled) return;
    take(episode.steps + 1, action, await session.ask({ type: "step", data: action }));
    refreshState();
  });
});

byId("state").addEventListener("click", refreshState);
byId("newest").addEventListener("click", () => {
  log.mark(undefined);
  look(episode.newest, parse(episode.newest.text).data);
  byId("log").focus();
});
byId("reconnect").addEventListener("click", () => connect());
byId("download").addEventListener("click", () => {
  const file = new Blob(log.lines(), { type: "application/jsonl" });
  const href = URL.createObjectURL(file);
  const name = `${document.title}-${episode.id || "episode"}`.replace(/[^\w.-]+/g, "_");
  const link = element("a", { href, download: `${name}.jsonl` });
  link.click();
  // The browser has taken it by the next turn of its loop.
  setTimeout(() => URL.revokeObjectURL(href), 0);
});

const showPhase = (phase, text) => {
  const line = byId("connection");
  line.className = phase;
  byId("connection-text").textContent = text;
  byId("reconnect").hidden = phase !== "closed";
  for (const id of ["reset", "state"]) byId(id).disabled = phase === "closed";
  if (phase === "closed") {
    // What can be done next gets the focus, where something that cannot any more has it.
    const isOrphan = document.activeElement === document.body || document.activeElement?.disabled;
    byId("step").disabled = true;
    if (isOrphan) byId("reconnect").focus();
  }
};

let rpc = 0;
const callTool = async (method, params) => {
  rpc += 1;
  const { data } = await session.ask({ type: "mcp", data: { jsonrpc: "2.0", id: rpc, method, params } });
  return data;
};

const showTools = (answer) => {
  const tools = Array.isArray(answer?.result?.tools) ? answer.result.tools : [];
  byId("tools").hidden = tools.length === 0;
  const call = (name, given) => callTool("tools/call", { name, arguments: given });
  const forms = tools.slice(0, MOST_TOOLS).map((tool) => toolForm(tool, call));
  if (forms.length > 0) forms[0].open = true;
  if (tools.length > MOST_TOOLS) forms.push(element("p", { class: "hint" }, `and ${tools.length - MOST_TOOLS} more`));
  byId("tool-forms").replaceChildren(...forms);
};

/** Opens a session; the one of before, if any, is gone, and its episode with it. */
const connect = () => {
  const url = new URL("ws", base);
  url.protocol = url.protocol.replace("http", "ws");
  const isFirst = session === undefined;
  session = new Session(url, showPhase);
  episode = { ...episode, id: "", steps: 0 };
  setOver(false);
  if (!isFirst) {
    byId("state-text").textContent = "not asked for yet";
    for (const id of ["state-error", "action-error", "reset-error"]) byId(id).textContent = "";
    byId("reset").focus();
  }
  // Also the question that tells whether there is a session at all.
  callTool("tools/list", {}).then(showTools, (failure) => {
    if (failure instanceof Refusal) byId("tools").hidden = true;
    // A lost connection is told where connections are.
  });
};

const about = async () => {
  const [metadata, names] = await Promise.all([read("metadata"), read("list_environments")]);
  const name = String(Array.isArray(names) && names.length > 0 ? names[0] : metadata.name);
  document.title = name;
  byId("name").textContent = name;
  byId("version").textContent = typeof metadata.version === "string" ? metadata.version : "";
  byId("description").textContent = typeof metadata.description === "string" ? metadata.description : "";
  if (typeof metadata.readme_content === "string" && metadata.readme_content !== "") {
    byId("readme-text").textContent = metadata.readme_content;
    byId("readme").hidden = false;
  }
};

const start = async () => {
  byId("reset-fields").append(resetFields.element);
  for (const id of ["reset-form", "action-form"]) sendsByKey(byId(id));
  try {
    const [found] = await Promise.all([read("schema"), about()]);
    Object.assign(schemas, found);
    actionFields = new Fields(schemas.action);
    byId("action-fields").append(actionFields.element);
  } catch (failure) {
    showPhase("closed", `The environment could not be read: ${failure.message}. Load the page again.`);
    byId("reconnect").hidden = true;
    return;
  }
  connect();
};

start();
