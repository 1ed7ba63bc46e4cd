// An environment's tools, by MCP: a form for each.

import { element } from "./element.js";
import { Fields, sendsByKey } from "./form.js";
import { compact, cut, pretty } from "./json.js";

/** Characters of a result that are shown. */
const MOST = 20_000;

/** The text of a tool's result: what it said, or all of it. */
const resultText = (result) => {
  const parts = Array.isArray(result?.content) ? result.content : [];
  const texts = parts.filter((part) => part?.type === "text" && typeof part.text === "string").map((part) => part.text);
  return texts.length > 0 ? texts.join("\n") : pretty(result);
};

/** The form of a tool. `call` is given its name and its arguments, and gives a JSON-RPC answer. */
export const toolForm = (tool, call) => {
  const name = String(tool?.name ?? "");
  const fields = new Fields(tool?.inputSchema ?? { properties: {} });
  const error = element("p", { class: "error", role: "alert" });
  const result = element("pre", { class: "result", tabindex: "0", hidden: true, "aria-label": `Result of ${name}` });
  const whole = element("pre", {});
  const more = element("details", { hidden: true }, element("summary", {}, "As JSON"), whole);
  const form = element("form", { novalidate: true }, fields.element, error,
    element("button", { "aria-label": `Call ${name}` }, "Call"), result, more);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = fields.read();
    if (given === undefined) return;
    error.textContent = "";
    try {
      const answer = await call(name, given);
      if (answer?.error) throw new Error(String(answer.error.message ?? compact(answer.error)));
      result.textContent = cut(resultText(answer?.result), MOST);
      result.classList.toggle("failed", answer?.result?.is_error === true);
      whole.textContent = cut(pretty(answer?.result), MOST);
      result.hidden = more.hidden = false;
    } catch (failure) {
      error.textContent = failure.message;
      result.hidden = more.hidden = true;
    }
  });
  sendsByKey(form);
  const about = typeof tool?.description === "string" ? element("p", { class: "hint" }, tool.description) : "";
  return element("details", { class: "tool" }, element("summary", {}, element("code", {}, name)), about, form);
};
