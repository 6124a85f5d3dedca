// What the views of one run share: which run is shown, and words for where its entropy is.

import { html } from "./vendor/vendor.js";
import { go, useStore } from "./store.js";
import { Card, Problem } from "./ui.js";

/** The run that the address names, else the one that trains, else the newest. */
export function useChosenRun() {
  const runs = useStore((state) => state.runs).filter(({ kind }) => kind !== "study");
  const { parts } = useStore((state) => state.place);
  const newest = runs.toSorted((a, b) => (b.state === "running") - (a.state === "running") || b.changed - a.changed)[0];
  return { runs, name: parts[0] ?? newest?.name ?? null, rest: parts.slice(1) };
}

export function RunSelect({ runs, name, view }) {
  return html`<div class="run-select"><select aria-label="Run" value=${name} onChange=${(event) => go(view, event.target.value)}>
    ${runs.map((run) => html`<option key=${run.name} value=${run.name} selected=${run.name === name}>${run.name}</option>`)}</select></div>`;
}

/** A run that cannot be shown: why, and the way to another one. */
export const BrokenRun = ({ runs, name, view, problem }) => html`
  <${Card} title=${name}><${RunSelect} ...${{ runs, name, view }} /><${Problem}>${problem}<//><//>`;

/** On which side of the band a step was. */
export const sideOf = ({ entropy, lower, upper }) =>
  entropy > upper ? "above the band" : entropy < lower ? "below the band" : "in the band";
