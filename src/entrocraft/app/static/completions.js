// What the model wrote: always text nodes, grouped by prompt.

import { html, useState } from "./vendor/vendor.js";
import { fixed, signed, visible } from "./format.js";
import { useStep } from "./follow.js";
import { address } from "./store.js";
import { Card, Chip, Choice, IconButton, Problem } from "./ui.js";

const LONG = 100;
export const TONES = { kept: "good", "in part": "warn", "left out": "bad" };

export function Mark({ reward }) {
  if (reward === 1) return html`<span class="mark good" role="img" aria-label="right">✓</span>`;
  if (reward === 0) return html`<span class="mark bad" role="img" aria-label="wrong">✗</span>`;
  return html`<span class="mark number" title="reward">${fixed(reward, 2)}</span>`;
}

/** Text of a model; a long one opens on a click. */
export function ModelText({ text, class: more = "" }) {
  const shown = visible(text ?? "");
  if (shown.length <= LONG) return html`<span class="mono text ${more}">${shown || html`<i class="faint">empty</i>`}</span>`;
  return html`<details class="text ${more}"><summary class="mono">${shown.slice(0, LONG)}…</summary><p class="mono pre">${shown}</p></details>`;
}

function Answer({ rollout, chosen, onChoose }) {
  const { reward, advantage, verdict, text, index } = rollout;
  const line = html`
    <${Mark} reward=${reward} />
    <${ModelText} text=${text} />
    <span class="row tail">
      <span class="number faint" title="advantage">${signed(advantage, 2)}</span><${Chip} tone=${TONES[verdict]}>${verdict}<//></span>`;
  const look = `answer ${verdict === "left out" ? "out" : ""}`;
  if (!onChoose) return html`<li class=${look}>${line}</li>`;
  return html`<li class=${look} data-chosen=${index === chosen ? "" : undefined}>${line}
    <button type="button" class="choose" aria-pressed=${String(index === chosen)} onClick=${() => onChoose(index)}>
      <span class="unseen">Show rollout ${index}</span></button></li>`;
}

/** The answers to one prompt together. */
export function Group({ group, chosen, onChoose }) {
  const rewards = group.rollouts.map(({ reward }) => reward);
  const level = rewards.length > 1 && rewards.every((reward) => reward === rewards[0]);
  return html`
    <li class="group">
      <div class="between question"><${ModelText} text=${group.prompt} /><span class="nowrap">${group.right} of ${group.of} right</span></div>
      <ul class="answers">${group.rollouts.map((rollout) => html`<${Answer} key=${rollout.index} ...${{ rollout, chosen, onChoose }} />`)}</ul>
      ${level && html`<p class="small faint">All rewards are equal: nothing is learnt from this group.</p>`}
    </li>`;
}

/** Completions of the newest step, or of one that is held. */
export function Completions({ name, info, newest }) {
  const [pinned, setPinned] = useState(null);
  // A step's rollouts are recorded a moment before the step itself is; the stream brings them, the server has them then.
  const steps = info.rollout_steps.filter((each) => each <= Math.max(info.step, newest?.step ?? 0));
  const last = steps.at(-1) ?? null;
  const number = pinned ?? last;
  const streamed = newest?.step === number ? newest : null;
  const { step, problem } = useStep(name, streamed ? null : number);
  const shown = streamed ?? (step?.step === number || pinned === null ? step : null);
  const at = steps.indexOf(number);
  const choice = html`
    <span class="muted small">${number !== null && `step ${shown?.step ?? number}`}</span><span class="grow"></span>
    ${pinned !== null && html`
      <${IconButton} icon="before" label="Recorded step before" disabled=${at <= 0} onClick=${() => setPinned(steps[at - 1])} />
      <${IconButton} icon="next" label="Next recorded step" disabled=${at >= steps.length - 1} onClick=${() => setPinned(steps[at + 1])} />`}
    ${number !== null && html`
      <${Choice} label="Which step" options=${[["newest", "newest"], ["pinned", "pinned"]]}
        value=${pinned === null ? "newest" : "pinned"} onChoose=${(each) => setPinned(each === "pinned" ? number : null)} />`}`;
  const none = info.state === "running" ? "No rollouts are recorded yet." : "This run recorded no rollouts.";
  return html`
    <${Card} title="Completions" aside=${choice} tight>
      ${problem && html`<div class="body"><${Problem}>${problem}<//></div>`}
      ${number === null && html`<p class="body muted">${none}</p>`}
      ${shown && html`
        <ul class="groups" tabindex="0" aria-label="Completions by prompt">
          ${shown.groups.map((group) => html`<${Group} key=${group.group} group=${group} />`)}</ul>
        <p class="foot"><a href=${address("explain", name, number)}>All rollouts of this step, and why they were kept</a></p>`}
    <//>`;
}
