// The page's own session: a WebSocket, on which questions are answered one by one and in order.

import { compact, parse } from "./json.js";

/** Errors after which the server closes: they answer no question. */
const FINAL = new Set(["CAPACITY_REACHED", "FACTORY_ERROR", "SESSION_ERROR"]);

/** The server's error to a question, with its `errors` by field. */
export class Refusal extends Error {
  constructor(data) {
    super(data?.message ?? "the server gave no reason");
    this.code = data?.code ?? "";
    this.errors = Array.isArray(data?.errors) ? data.errors : [];
  }
}

/** There is no session to ask any more. */
export class Lost extends Error {}

const why = (event, last) => {
  if (last?.code === "CAPACITY_REACHED") {
    return `The server is at capacity: ${last.active_sessions} of ${last.max_sessions} sessions are in use. Try again later.`;
  }
  if (last) return `The session is closed: ${last.message ?? last.code}`;
  if (event.code === 1001) return `The server closed the connection: ${event.reason || "it is going away"}.`;
  if (event.code === 1009) return "The connection is closed: the message was longer than the server takes.";
  if (event.code === 1000) return "The session is closed.";
  return "The connection to the server is lost.";
};

/** One connection. `changed` is called with a phase ("waiting", "open" or "closed") and what to tell of it. */
export class Session {
  #socket;
  #asked = [];
  #changed;
  #last;

  constructor(url, changed) {
    this.#changed = changed;
    this.phase = "waiting";
    changed("waiting", "Opening a session…");
    this.#socket = new WebSocket(url);
    this.#socket.addEventListener("open", () => {
      for (const { text } of this.#asked) this.#socket.send(text);
    });
    this.#socket.addEventListener("message", (event) => this.#hear(event.data));
    this.#socket.addEventListener("close", (event) => this.#end(why(event, this.#last)));
  }

  /** Asks; what is answered, or a Refusal, or Lost. */
  ask(message) {
    const text = compact(message);
    if (this.phase === "closed") return Promise.reject(new Lost("there is no session; reconnect first"));
    return new Promise((resolve, reject) => {
      this.#asked.push({ text, resolve, reject });
      // What is asked before the connection is open is sent when it is.
      if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(text);
    });
  }

  #hear(text) {
    let message;
    try {
      message = parse(text);
    } catch (error) {
      message = { type: "error", data: { message: `the server's answer is no JSON: ${error.message}` } };
    }
    if (message?.type === "error" && FINAL.has(message.data?.code)) {
      this.#last = message.data;
      return;
    }
    if (this.phase === "waiting") {
      this.phase = "open";
      this.#changed("open", "Connected; this page has a session of its own.");
    }
    const asked = this.#asked.shift();
    // Nobody asked: there is nothing that it could be the answer to.
    if (!asked) return;
    if (message?.type === "error") asked.reject(new Refusal(message.data));
    else asked.resolve({ type: message?.type, data: message?.data, text });
  }

  #end(reason) {
    this.phase = "closed";
    this.#changed("closed", reason);
    for (const { reject } of this.#asked.splice(0)) reject(new Lost(reason));
  }
}
