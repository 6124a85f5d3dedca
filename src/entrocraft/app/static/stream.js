// News from the server. Each tab has one stream, as browsers allow six connections over all tabs; a hidden tab has
// none, and goes on where it was when it is seen again.

import { state, update } from "./store.js";

const EVENTS = ["runs", "steps", "eval", "rollouts", "steering", "state", "event", "reset"];
const RETRY_MS = 3000;

const listeners = new Set();
let source = null;
let retry = null;
let watched = [];
let last = "";

function close() {
  source?.close();
  source = null;
  clearTimeout(retry);
}

/** The list of runs with one of them further on. */
const advanced = ({ run, step }) => state.runs.map((each) => (each.name === run ? { ...each, step: step.at(-1) } : each));

function open() {
  close();
  if (document.hidden) return;
  const query = new URLSearchParams();
  if (watched.length) query.set("runs", watched.join(","));
  if (last) query.set("last", last);
  source = new EventSource(`api/events?${query}`);
  source.onopen = () => update({ connection: "open" });
  source.onerror = () => {
    update({ connection: "lost" });
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS); // refused: it won't retry alone
  };
  for (const name of EVENTS) {
    source.addEventListener(name, (event) => {
      last = event.lastEventId || last;
      const news = JSON.parse(event.data);
      if (name === "runs") update({ runs: news.runs });
      if (name === "steps") update({ runs: advanced(news) });
      for (const listener of listeners) listener(name, news);
    });
  }
}

/** Follow these runs from now on; an id of other runs means nothing to them. */
export function watch(runs) {
  if (source && runs.join() === watched.join()) return;
  watched = runs;
  last = "";
  open();
}

/** Tell `listener(name, news)` of everything that happens; returns how to stop that. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));

// A page that is left for another and comes back by the browser's own "back" has lost its stream.
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => event.persisted && state.hello && open());
