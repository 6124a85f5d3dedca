// The view "Compare": runs and studies over each other, and what may be said of them.

import { html, useEffect, useMemo, useState } from "./vendor/vendor.js";
import { get, runPath } from "./api.js";
import { Chart, rangeOf, stepRange, valuesOf } from "./chart.js";
import { fixed, percent, smooth } from "./format.js";
import { go, useNarrow, useStore } from "./store.js";
import { listen, watch } from "./stream.js";
import { Aside, Card, Choice, CopyButton, FileLinks, Key, NoRun, Problem, StateChip } from "./ui.js";

const HEIGHT = 226; // of the smaller charts
const COLOURS = 8;
const MOST_SHOWN = 8;
const REFRESH_MS = 3000;
const tone = (index) => `c${(index % COLOURS) + 1}`;

/** What the server says of these runs; asked for again while they train. */
function useComparison(names) {
  const [told, setTold] = useState({ comparison: null, problem: null });
  const key = names.join(",");
  useEffect(() => {
    watch(names);
    if (!key) return setTold({ comparison: null, problem: null });
    let wanted = true;
    let timer = null;
    const ask = () => {
      timer = null;
      get(`compare?${new URLSearchParams({ runs: key })}`)
        .then((comparison) => wanted && setTold({ comparison: { ...comparison, columns: shownColumns(comparison.columns) }, problem: null }))
        .catch((error) => wanted && setTold({ comparison: null, problem: error.message }));
    };
    ask();
    const stop = listen((event, { run }) => {
      if (names.includes(run) && event !== "rollouts") timer ??= setTimeout(ask, REFRESH_MS);
    });
    return () => {
      wanted = false;
      clearTimeout(timer);
      stop();
    };
  }, [key]);
  return told;
}

function about({ problem, kind, method, engine, step, steps }) {
  if (problem || kind === "study") return problem ?? "study";
  return [method ?? "no control", engine === "verl" && "verl", steps && `${step} of ${steps} steps`].filter(Boolean).join(", ");
}

function RunList({ runs, chosen, colours }) {
  const choose = (name) => (event) => {
    const next = event.target.checked ? [...chosen, name].slice(-MOST_SHOWN) : chosen.filter((each) => each !== name);
    go("compare", ...(next.length ? [next.join(",")] : ["-"]));
  };
  return html`
    <${Card} title="Runs" class="o2" aside=${html`<${Aside}>${chosen.length} of ${runs.length} shown<//>`}>
      <ul class="runs">${runs.map((run) => html`
        <li key=${run.name}><label>
          <input type="checkbox" checked=${chosen.includes(run.name)} disabled=${run.state === "broken"} onChange=${choose(run.name)} />
          <i class="swatch tone-${colours.get(run.name) ?? "none"}"></i>
          <span class="named"><b>${run.name}</b><span class="small ${run.problem ? "bad-ink" : "muted"}">${about(run)}</span></span>
          <${StateChip} run=${run} /></label></li>`)}</ul>
    <//>`;
}

// Of the table: what says how a run went stands before what it took, and its state stands in the list beside it.
const LAST = ["steps", "seconds"];
const shownColumns = (columns) => [
  ...columns.filter(({ name }) => ![...LAST, "state", "pass@1"].includes(name)),
  ...columns.filter(({ name }) => LAST.includes(name)),
];

const line = (run, index, values, more = {}) => ({ id: run.name, label: run.name, color: tone(index), values, ...more });

/** One table per run: its line, and the corridor of its interval. */
function withInterval(run, index, x, { value, low, high }, more) {
  const lines = [line(run, index, value, more)];
  if (low && high) {
    lines.unshift(
      { id: `${run.name} high`, color: tone(index), width: 0, values: high, fillTo: `${run.name} low`, fill: `${tone(index)}-fill` },
      { id: `${run.name} low`, color: tone(index), width: 0, values: low },
    );
  }
  return { x, lines };
}

const columnsOf = (rows) => ({ value: rows.map((row) => row.value), low: rows.map((row) => row.low), high: rows.map((row) => row.high) });

function EntropyChart({ runs }) {
  const narrow = useNarrow();
  const tables = useMemo(() => runs.flatMap((run, index) => {
    const table = withInterval(run, index, run.entropy.step, run.entropy, { width: 2.2 });
    if (!run.target?.value.some((value) => value !== null)) return [table];
    const band = { value: run.target.value, low: run.lower?.value, high: run.upper?.value };
    const asked = { id: `${run.name} target`, label: null, width: 1.2, dash: [5, 4], alpha: 0.75 };
    return [withInterval({ name: asked.id }, index, run.target.step, band, asked), table];
  }), [runs]);
  const last = Math.max(1, ...runs.map(({ entropy }) => entropy.step.at(-1) ?? 0));
  return html`
    <${Chart} label=${`Entropy of ${runs.map(({ name }) => name).join(", ")} over steps`} tables=${tables} x=${stepRange(last)}
      y=${rangeOf(valuesOf(tables), { least: 0.06, floor: 0 })} height=${narrow ? 250 : 310} />`;
}

function RewardChart({ runs }) {
  const tables = useMemo(() => runs.filter(({ reward }) => reward?.step.length).map((run) => {
    const index = runs.indexOf(run);
    return { x: run.reward.step, lines: [
      { id: `${run.name} raw`, color: tone(index), width: 1, alpha: 0.22, values: run.reward.value },
      line(run, index, smooth(run.reward.value, 0.9)),
    ] };
  }), [runs]);
  if (!tables.length) return html`<p class="muted">No reward is recorded.</p>`;
  const last = Math.max(1, ...tables.map(({ x }) => x.at(-1)));
  return html`
    <${Chart} label="Training reward over steps, smoothed" tables=${tables} x=${stepRange(last)}
      y=${rangeOf(valuesOf(tables), { least: 0.05 })} height=${HEIGHT} />`;
}

function ScoreChart({ runs, measure }) {
  const tables = useMemo(() => runs.filter((run) => run.scores?.[measure]?.length).map((run) => {
    const rows = run.scores[measure];
    return withInterval(run, runs.indexOf(run), rows.map(({ step }) => step), columnsOf(rows), { points: true });
  }), [runs, measure]);
  if (!tables.length) return html`<p class="muted">These runs have not been evaluated.</p>`;
  const last = Math.max(1, ...tables.map(({ x }) => x.at(-1)));
  return html`<${Chart} label=${`${measure} on held-out problems over steps, with 95 % intervals`} tables=${tables} x=${[-0.05 * last, 1.05 * last]}
    y=${rangeOf(valuesOf(tables), { least: 0.1 })} height=${HEIGHT} />`;
}

function PassChart({ runs }) {
  const scored = runs.filter((run) => run.pass_at_k?.length > 1);
  const ks = [...new Set(scored.flatMap((run) => run.pass_at_k.map(({ k }) => k)))].sort((a, b) => a - b);
  const before = scored.find((run) => run.pass_at_k_before?.length)?.pass_at_k_before;
  const tables = useMemo(() => {
    const at = (rows) => ks.map((k) => rows.find((row) => row.k === k) ?? { value: null, low: null, high: null });
    const x = ks.map((_, index) => index);
    const all = scored.map((run) => withInterval(run, runs.indexOf(run), x, columnsOf(at(run.pass_at_k)), { points: true }));
    if (!before) return all;
    const style = { id: "before", label: "before training", color: "ink-3", width: 1.5, dash: [4, 4] };
    return [{ x, lines: [{ ...style, values: at(before).map(({ value }) => value) }] }, ...all];
  }, [runs]);
  if (!scored.length) return html`<p class="muted">No pass@k is recorded: these runs were not evaluated with several samples.</p>`;
  return html`<${Chart} label="pass@k on held-out problems at the end, with 95 % intervals" tables=${tables}
    x=${[-0.2, ks.length - 0.8]} y=${[0, 1.02]} height=${HEIGHT} ticks=${ks.map((k) => `k = ${k}`)} xName=${(index) => `k = ${ks[Math.round(index)]}`} />`;
}

/** Half of an interval; nothing where there is none, as with few seeds. */
const margin = ({ low, high }) => (low === null || high === null ? "" : `± ${fixed((high - low) / 2)}`);

function cell(value, unit) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (typeof value === "object") return html`${fixed(value.value)}${margin(value) && html` <span class="faint">${margin(value)}</span>`}`;
  return unit.startsWith("share") ? percent(value) : Number.isInteger(value) ? String(value) : fixed(value);
}

const plain = (value, unit) => (typeof value === "object" && value ? `${fixed(value.value)} ${margin(value)}`.trim() : cell(value, unit));

function markdown({ runs, columns }) {
  const row = (cells) => `| ${cells.join(" | ")} |`;
  return [
    row(["run", ...columns.map(({ title }) => title)]),
    row(["---", ...columns.map(() => "---:")]),
    ...runs.map((run) => row([run.name, ...columns.map(({ name, unit }) => plain(run.row?.[name], unit))])),
  ].join("\n");
}

const ResultTable = ({ comparison: { runs, columns, best } }) => html`
  <div class="scroll-x" tabindex="0" role="region" aria-label="Table of results">
    <table class="results">
      <thead><tr><th scope="col">run</th>${columns.map(({ name, title }) => html`<th key=${name} scope="col">${title}</th>`)}</tr></thead>
      <tbody>${runs.map((run, index) => html`
        <tr key=${run.name}><th scope="row"><i class="swatch tone-${tone(index)}"></i>${run.name}</th>
          ${columns.map(({ name, unit }) => html`
            <td key=${name} class=${best?.[name] === run.name ? "best" : ""}>${cell(run.row?.[name], unit)}</td>`)}</tr>`)}</tbody>
    </table>
  </div>`;

function Charts({ comparison }) {
  const { runs } = comparison;
  const measures = [...new Set(runs.flatMap((run) => Object.keys(run.scores ?? {})))].filter((name) => name !== "pass@1"); // mean@n says the same
  const [wanted, setMeasure] = useState(null);
  const measure = measures.includes(wanted) ? wanted : measures[0];
  const legend = html`
    <span class="grow"></span>${runs.map((run, index) => html`<${Key} key=${run.name} tone=${tone(index)}>${run.name}<//>`)}
    <${Key} tone="none" mark="dash">what was asked for<//>`;
  const options = measures.map((each) => [each, each]);
  const choice = measures.length > 1 && html`<${Choice} label="Measure" options=${options} value=${measure} onChoose=${setMeasure} />`;
  const before = runs.some((run) => run.pass_at_k_before?.length) && html`<${Key} tone="none" mark="dash">before training<//>`;
  const intervals = html`<${Aside}>± are 95 % intervals; bold only where they do not overlap<//>`;
  return html`
    <${Card} title="Entropy" class="o1" aside=${legend}><${EntropyChart} runs=${runs} /><//>
    <${Card} title="At the end" aside=${intervals}><${ResultTable} comparison=${comparison} /><//>
    <div class="split">
      <${Card} title="Score on held-out problems" aside=${choice}><${ScoreChart} runs=${runs} measure=${measure} /><//>
      <${Card} title="pass@k at the end" aside=${before}><${PassChart} runs=${runs} /><//>
    </div>
    <${Card} title="Training reward" aside=${html`<${Aside}>smoothed<//>`}><${RewardChart} runs=${runs} /><//>`;
}

export function Compare() {
  const runs = useStore((state) => state.runs);
  const { parts } = useStore((state) => state.place);
  const newest = runs.filter(({ state, kind }) => state !== "broken" && kind !== "study").toSorted((a, b) => b.changed - a.changed).slice(0, 2);
  const chosen = parts[0] ? parts[0].split(",").filter((name) => runs.some((run) => run.name === name)) : newest.map(({ name }) => name);
  const { comparison, problem } = useComparison(chosen);
  const reports = chosen.filter((name) => runs.some((run) => run.name === name && run.kind === "run" && run.state === "done"));
  const colours = new Map(comparison?.runs.map((run, index) => [run.name, tone(index)]));
  if (!runs.length) return html`<${NoRun} title="Nothing to compare yet">Two runs in this folder can be laid over each other here.<//>`;
  return html`
    <div class="view">
      <div class="column">
        ${problem && html`<${Card} title="Entropy"><${Problem}>${problem}<//><//>`}
        ${!chosen.length && html`<${Card} title="Entropy"><p class="muted">Choose runs to lay over each other.</p><//>`}
        ${comparison && chosen.length > 0 && html`<${Charts} comparison=${comparison} />`}
      </div>
      <div class="column side">
        <${RunList} ...${{ runs, chosen, colours }} />
        ${comparison?.words.length > 0 && html`
          <${Card} title="In words" class="o3">
            <div class="note words" tabindex="0" role="region" aria-label="In words">
              ${comparison.words.map((sentence) => html`<p key=${sentence}>${sentence}</p>`)}</div>
            <div class="row"><${CopyButton} text=${() => markdown(comparison)}>Copy as Markdown<//></div>
            ${reports.length > 0 && html`
              <${FileLinks} title="Reports" files=${reports.map((name) => [runPath(name, "/files/report.md"), name])} />`}
          <//>`}
      </div>
    </div>`;
}
