// Small components that every view uses.

import { html, useEffect, useRef, useState } from "./vendor/vendor.js";
import { address } from "./store.js";

const ICONS = {
  draw: html`<path d="M3 8c6 0 6 9 18 9" /><circle cx="12" cy="13" r="2.6" />`,
  run: html`<path d="M3 12h4l3-7 4 14 3-7h4" />`,
  compare: html`<path d="M4 19V5M4 19h16M8 15l4-5 3 3 5-7" />`,
  explain: html`<path d="M12 3v18M3 12h18" /><circle cx="7.5" cy="7.5" r="1.4" /><circle cx="16.5" cy="8" r="1.4" />
    <circle cx="16" cy="16.5" r="1.4" />`,
  undo: html`<path d="M9 14 4 9l5-5" /><path d="M4 9h10a6 6 0 0 1 0 12h-3" />`,
  redo: html`<path d="m15 14 5-5-5-5" /><path d="M20 9H10a6 6 0 0 0 0 12h3" />`,
  plus: html`<path d="M12 5v14M5 12h14" />`,
  cross: html`<path d="M6 6l12 12M18 6 6 18" />`,
  before: html`<path d="m15 5-7 7 7 7" />`,
  next: html`<path d="m9 5 7 7-7 7" />`,
  light: html`<circle cx="12" cy="12" r="4.2" /><path d="M12 2.8v2M12 19.2v2M2.8 12h2M19.2 12h2" />
    <path d="M5.5 5.5l1.4 1.4M17.1 17.1l1.4 1.4M18.5 5.5l-1.4 1.4M6.9 17.1l-1.4 1.4" />`,
  dark: html`<path d="M20 14.5A8.2 8.2 0 0 1 9.5 4 8.2 8.2 0 1 0 20 14.5Z" />`,
  system: html`<rect x="3" y="4.5" width="18" height="12.5" rx="2" /><path d="M9 20.5h6" />`,
};

export const Icon = ({ name, size = 17 }) => html`
  <svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true">${ICONS[name]}</svg>`;

export const IconButton = ({ icon, label, ...rest }) => html`
  <button type="button" class="square" aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} /></button>`;

export const Card = ({ title, aside, tight, class: more = "", children, ...rest }) => html`
  <section class="card ${more}" ...${rest}>
    ${title && html`<header class="head"><h2>${title}</h2>${aside}</header>`}
    <div class=${tight ? "" : "body"}>${children}</div>
  </section>`;

/** What stands at the right of a card's title. */
export const Aside = ({ children }) => html`<span class="grow"></span><span class="small muted">${children}</span>`;

/** Links to files of runs: `files` are [run's path, text] pairs. */
export const FileLinks = ({ title, files }) => html`
  <p class="small muted files">${title}: ${files.map(([path, text], i) => html`${i ? ", " : ""}<a href=${`api/${path}`}>${text}</a>`)}</p>`;

/** A row of buttons of which one is pressed. `options` are [value, text] pairs. */
export const Choice = ({ label, options, value, onChoose, disabled = [], class: more = "" }) => html`
  <div class="choice ${more}" role="group" aria-label=${label}>
    ${options.map(([option, text]) => html`
      <button type="button" key=${option} aria-pressed=${String(option === value)} disabled=${disabled.includes(option)}
        onClick=${() => onChoose(option)}>${text}</button>`)}
  </div>`;

let fields = 0;

/** A labelled control; `children` is a function that gets the control's id. */
export function Field({ label, hint, children }) {
  const [id] = useState(() => `field-${(fields += 1)}`);
  return html`
    <div class="field">
      <label for=${id}>${label}${hint && html` <span class="faint">${hint}</span>`}</label>
      ${children(id)}
    </div>`;
}

export const Select = ({ label, options, value, onChoose, ...rest }) => html`
  <${Field} label=${label}>${(id) => html`
    <select id=${id} value=${value} onChange=${(event) => onChoose(event.target.value)} ...${rest}>
      ${options.map(([option, text]) => html`<option key=${option} value=${option} selected=${option === value}>${text}</option>`)}
    </select>`}<//>`;

/** A number that counts once it is complete: on Enter, or when the field is left. */
export function NumberInput({ value, onNumber, digits, label, ...rest }) {
  const shown = digits === undefined ? String(value) : value.toFixed(digits);
  const input = useRef(null);
  useEffect(() => {
    input.current.value = shown;
  }, [shown]);
  const take = () => {
    const number = input.current.valueAsNumber;
    if (Number.isFinite(number) && input.current.value !== shown) onNumber(number);
    else input.current.value = shown;
  };
  return html`<input ref=${input} type="number" aria-label=${label} onChange=${take} ...${rest} />`;
}

export const Chip = ({ tone = "", children, ...rest }) => html`<span class="chip ${tone}" ...${rest}>${children}</span>`;

/** One entry of a legend: a line, a dashed line, a filled band, a dot or a ring. */
export const Key = ({ tone, mark = "line", children }) => html`
  <span class="key tone-${tone}"><i class=${mark} aria-hidden="true"></i>${children}</span>`;

export const Tile = ({ title, value, unit, tone = "", children }) => html`
  <div class="tile"><h2 class="minor">${title}</h2><p class="value ${tone}">${value}${unit && html` <small>${unit}</small>`}</p>
    <p class="detail">${children}</p></div>`;

export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2><p>${children}</p></div>`;

/** What a view shows while there is no run. */
export const NoRun = ({ title, children }) => html`
  <${Empty} title=${title}>${children}<br /><a class="button strong" href=${address("draw")}>Draw a curve</a><//>`;

/** What went wrong, said at once to those who cannot see it. */
export const Problem = ({ children }) => html`<p class="problem" role="alert">${children}</p>`;

const STATES = {
  running: ["training", "good"],
  done: ["done", "good"],
  queued: ["waiting", "warn"],
  stopped: ["stopped", ""],
  failed: ["failed", "bad"],
  broken: ["broken", "bad"],
};

export function StateChip({ run }) {
  const [text, tone] = STATES[run.state] ?? [run.state, ""];
  if (run.state === "running") {
    return html`<span class="chip good"><span key=${run.step} class="dot live"></span>${text}</span>`;
  }
  return html`<${Chip} tone=${tone}>${text}<//>`;
}

/** A button that says for a moment that it has copied. */
export function CopyButton({ text, children = "Copy", ...rest }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      setCopied(false); // the browser forbids it: the text stands there to be selected
    }
  };
  return html`<button type="button" class="button" onClick=${copy} ...${rest}>
    <span aria-live="polite">${copied ? "Copied" : children}</span></button>`;
}
