// The view "Run": a run as it trains, or as it was.

import { html, useEffect, useMemo, useState } from "./vendor/vendor.js";
import { post, runPath } from "./api.js";
import { Chart, past, rangeOf, standing, stepRange, valuesOf } from "./chart.js";
import { Completions } from "./completions.js";
import { duration, fixed, mean, percent, signed, smooth } from "./format.js";
import { useRun } from "./follow.js";
import { Knots } from "./knots.js";
import { BrokenRun, RunSelect, sideOf, useChosenRun } from "./runs.js";
import { ProposalBar, SteeringState, useProposal, useSteering } from "./steer.js";
import { useNarrow } from "./store.js";
import { Card, Chip, FileLinks, Key, NoRun, Problem, StateChip, Tile } from "./ui.js";

const RECENT = 20;
const NO_STEP = {
  running: "The model and its first problems are loading; the first step comes soon.",
  queued: "This run starts when the one before it ends.",
};

function Actions({ name, info, steering, reload }) {
  const [asked, setAsked] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => setAsked(null), [name, info.state]);
  const send = async (path, body, then) => {
    try {
      const answer = await post(runPath(name, path), body);
      setProblem(null);
      setAsked(then(answer));
      reload();
    } catch (error) {
      setProblem(error.message);
    }
  };
  const stop = (now) => send("/stop", { now }, (answer) => ({ stop: true, at: answer?.stops_at ?? null, now }));
  const running = info.state === "running";
  const stoppable = info.live && (running || info.state === "queued");
  const upTo = info.state === "queued" ? "Take back" : info.stops_at ? `Stop at step ${info.stops_at}` : "Stop after this step";
  return html`
    <div class="row actions">
      ${running && info.steps && html`<button type="button" class="button accent"
        aria-pressed=${String(Boolean(steering.drawing))} disabled=${!info.steerable || !info.curve}
        title=${info.why_not_steerable ?? undefined} onClick=${steering.drawing ? steering.discard : steering.begin}>
        Bend the curve</button>`}
      ${stoppable && !asked?.stop && html`<button type="button" class="button danger" onClick=${() => stop(false)}>${upTo}</button>`}
      ${stoppable && asked?.stop && !asked.now && html`
        <button type="button" class="button danger" onClick=${() => stop(true)}>Stop at once</button>`}
      ${["stopped", "failed"].includes(info.state) && !info.config?.script && html`<button type="button" class="button strong" disabled=${asked?.resume}
        onClick=${() => send("/resume", {}, () => ({ resume: true }))}>Go on from step ${info.checkpoints.at(-1) ?? 0}</button>`}
    </div>
    <div class="actions-said" aria-live="polite">
      ${running && asked?.stop && html`<p class="small muted">${asked.now
        ? "Stopping; the steps since the last checkpoint are made again later."
        : `Goes on to step ${asked.at ?? info.step + 1}, saves, and stops. It can go on from there.`}</p>`}
      ${running && info.steps && !info.steerable && html`<p class="small muted">${info.why_not_steerable}</p>`}
      ${running && !info.live && html`<p class="small muted">Started elsewhere: stop it there, by Ctrl-C.</p>`}
      ${asked?.resume && html`<p class="small muted">Starting again…</p>`}
    </div>
    ${problem && html`<${Problem}>${problem}<//>`}`;
}

function Head({ runs, name, info, steering, lastLines, reload }) {
  const running = info.state === "running";
  const elapsed = info.seconds + (running ? (Date.now() - info.told) / 1000 : 0);
  return html`
    <div class="run-head">
      <${RunSelect} runs=${runs} name=${name} view="run" />
      <${StateChip} run=${info} />
      <span class="muted small">${info.steps ? html`step <b>${info.step}</b> of ${info.steps}` : "loading"}
        ${info.seconds != null && ` · ${duration(elapsed)}${running ? " so far" : ""}`}
        ${running && info.seconds_left != null && ` · ${duration(info.seconds_left)} left`}</span>
      <span class="grow"></span>
      <${Actions} ...${{ name, info, steering, reload }} />
    </div>
    <div class="progress" role="progressbar" aria-label="Steps made" aria-valuemin="0" aria-valuenow=${info.step} aria-valuemax=${info.steps ?? 1}>
      <i class=${info.steps ? "" : "loading"} style=${{ width: `${info.steps ? (100 * info.step) / info.steps : 18}%` }}></i></div>
    ${info.why && info.steps && info.state !== "done" && html`<p class="body small muted">${info.why}</p>`}
    ${info.problem && html`<div class="body"><${Problem}>${info.problem}<//></div>`}
    ${info.state === "failed" && lastLines?.length > 0 && html`<div class="body">
      <pre class="code" tabindex="0" aria-label="Last lines of its output">${lastLines.join("\n")}</pre></div>`}`;
}

function Tiles({ info, series }) {
  const { columns, step } = series;
  const at = step.length - 1;
  const last = (key) => columns[key]?.[at] ?? null;
  const recent = (key) => (columns[key] ?? []).slice(-RECENT);
  const [entropy, target, lower, upper] = ["entropy", "target", "lower", "upper"].map(last);
  const side = target === null ? "no curve" : `target ${fixed(target)}, ${sideOf({ entropy, lower, upper })}`;
  const away = mean(recent("distance").map((value) => (value === null ? null : Math.abs(value))));
  const kept = mean(recent("kept_token_fraction"));
  const count = Math.min(RECENT, step.length);
  const over = count === 1 ? "of the first step" : `mean of the last ${count} steps`;
  const noise = info.noise ? `; reading noise ${fixed(info.noise)}` : "";
  return html`
    <div class="tiles">
      <${Tile} title="Entropy" value=${fixed(entropy)} unit="nats" tone="measured">${side}<//>
      <${Tile} title="Distance from target" value=${fixed(away)} unit=${away !== null && "nats"}>
        ${away === null ? "this run follows no curve" : over + noise}<//>
      <${Tile} title="Tokens learnt from" value=${kept === null ? "–" : Math.round(100 * kept)} unit=${kept !== null && "%"}>
        ${kept !== null && kept < 0.995 ? "the rest would have pushed the wrong way" : over}<//>
      <${Tile} title="Reward" value=${fixed(mean(recent("reward")))}>${over}<//>
    </div>`;
}

/** What was measured and asked for so far, and what the curve asks for from here on. */
function entropyTable({ series, info, bent }) {
  const { step, columns } = series;
  const curve = info.curve;
  const ahead = curve ? curve.step.map((_, i) => i).filter((i) => curve.step[i] > (step.at(-1) ?? -1)) : [];
  const whole = (key) => [...(columns[key] ?? step.map(() => null)), ...ahead.map((i) => curve[key][i])];
  const style = bent ? { alpha: 0.45 } : {};
  const lines = [{ id: "entropy", label: "measured", color: "measured", width: 2.4, values: [...columns.entropy, ...ahead.map(() => null)] }];
  if (curve || columns.target?.some((value) => value !== null)) {
    lines.unshift(
      { id: "upper", color: "band-edge", width: 1, values: whole("upper"), fillTo: "lower", fill: "band-fill" },
      { id: "lower", color: "band-edge", width: 1, values: whole("lower") },
      { id: "target", label: "target", color: "band", width: 1.7, values: whole("target"), ...style },
    );
  }
  return { x: [...step, ...ahead.map((i) => curve.step[i])], lines };
}

function EntropyCard({ info, series, steering }) {
  const legend = html`<span class="grow"></span>
    <${Key} tone="measured">measured<//>${info.curve && html`<${Key} tone="band">target<//><${Key} tone="band" mark="fill">band<//>`}
    ${steering.drawing && html`<${Key} tone="proposal" mark="dash">your new curve<//>`}`;
  const Plot = steering.drawing ? Bending : Watching;
  return html`
    <${Card} title="Entropy" aside=${legend}>
      <${Plot} ...${{ info, series, steering }} />
      <${SteeringState} steering=${steering} info=${info} />
      <${SmallCharts} ...${{ info, series }} />
    <//>`;
}

const under = (info) => (info.state === "done" ? null : past(info.step));
const nowFlag = (info, place) => info.state === "running" && html`
  <div class="flag now" style=${{ left: `${place.x(info.step)}px` }}>now, step ${info.step}</div>`;

function useEntropyTable(parts) {
  const { series, info, bent } = parts;
  return useMemo(() => entropyTable(parts), [series, info.curve, bent]);
}

function Watching({ info, series }) {
  const height = useNarrow() ? 290 : 340;
  const table = useEntropyTable({ info, series });
  const tables = useMemo(() => [table], [table]);
  const last = series.columns.entropy.length - 1;
  const { entropy } = series.columns;
  const label = `Entropy over ${info.steps} steps: ${fixed(entropy[0])} at first, ${fixed(entropy[last])} at step ${info.step}`;
  return html`<${Chart} label=${label} tables=${tables} height=${height}
    x=${stepRange(info.steps)} y=${rangeOf(valuesOf(tables), { least: 0.06, floor: 0 })} under=${under(info)} over=${(place) => html`
      ${nowFlag(info, place)}
      ${info.state === "running" && html`<i key=${info.step} class="pulse" style=${standing(place.x(series.step[last]), place.y(entropy[last]))}></i>`}`} />`;
}

function Bending({ info, series, steering }) {
  const height = useNarrow() ? 290 : 340;
  const proposal = useProposal(steering.drawing, info);
  const { history, selected, select, answer, lines } = proposal;
  const [dragging, setDragging] = useState(null);
  const table = useEntropyTable({ info, series, bent: true });
  const tables = useMemo(() => (proposal.table ? [table, proposal.table] : [table]), [table, proposal.table]);
  const fitted = rangeOf([...valuesOf(tables), ...history.now.knots.map(([, value]) => value)], { air: 0.14, least: 0.1, floor: 0 });
  const shown = dragging ?? fitted;
  return html`
    <${ProposalBar} info=${info} proposal=${proposal} onApply=${steering.apply} onDiscard=${steering.discard} />
    <${Chart} label=${`Entropy over ${info.steps} steps, with the curve that you propose from step ${info.step + 1}`} tables=${tables}
      x=${stepRange(info.steps)} y=${shown} height=${height} under=${under(info)} over=${(place) => html`
        ${nowFlag(info, place)}
        <${Knots} ...${{ place, lines, answer, selected }} steps=${info.steps} earliest=${info.step / info.steps}
          unit="nats" width=${history.now.width} tone="proposal"
          onSelect=${select} onChange=${(key, knots, tag) => history.change((curve) => ({ ...curve, [key]: knots }), tag)}
          onDrag=${(begins) => setDragging(begins ? shown : null)} onUndo=${history.undo} onRedo=${history.redo} />`} />`;
}

function SmallCharts({ info, series }) {
  const { step, columns } = series;
  const narrow = useNarrow();
  const charts = useMemo(() => {
    const noisy = (key, label) => [{ x: step, lines: [
      { id: "raw", color: "measured", width: 1, alpha: 0.35, values: columns[key] },
      { id: "smooth", label, color: "measured", values: smooth(columns[key], 0.8) },
    ] }];
    const half = (sign) => step.map((_, i) => (columns.upper[i] === null ? null : (sign * (columns.upper[i] - columns.lower[i])) / 2));
    const away = columns.distance?.some((value) => value !== null) && [{ x: step, lines: [
      { id: "upper", color: "band-edge", width: 1, values: half(1), fillTo: "lower", fill: "band-fill" },
      { id: "lower", color: "band-edge", width: 1, values: half(-1) },
      { id: "distance", label: "distance", color: "measured", width: 1.8, values: columns.distance },
    ] }];
    return [
      ["Reward", noisy("reward", "reward, smoothed"), (value) => fixed(value, 2)],
      ["Tokens learnt from", columns.kept_token_fraction && noisy("kept_token_fraction", "share, smoothed"), (value) => percent(value)],
      ["Entropy minus target", away, (value) => signed(value, 2)],
    ].filter(([, tables]) => tables);
  }, [series]);
  return html`
    <div class="trio">${charts.map(([title, tables, format]) => html`
      <div key=${title}><h3>${title}</h3>
        <${Chart} small label=${`${title} over the steps made`} tables=${tables} x=${stepRange(info.steps)} format=${format}
          y=${rangeOf(valuesOf(tables), { least: 0.04 })} height=${narrow ? 112 : 122} under=${under(info)} /></div>`)}
    </div>`;
}

const TONES = { above: "warn", below: "warn", guard: "warn", steering: "proposal", checkpoint: "good", evaluation: "info", state: "" };

function Happened({ info }) {
  const events = info.events.slice(-60).reverse();
  return html`
    <${Card} title="What happened">
      ${events.length === 0 && html`<p class="muted">Nothing worth telling so far.</p>`}
      <div class="log" role="log" aria-label="What happened" tabindex="0"><ol>${events.map(({ step, kind, text }) => html`
        <li key=${`${step}${kind}${text}`}>
          <span class="when">step ${step}</span><span><${Chip} tone=${TONES[kind]}>${kind}<//> ${text}</span></li>`)}</ol></div>
    <//>`;
}

function Files({ name, info }) {
  const files = [info.state === "done" && "report.md", "config.json", "metrics.jsonl", info.live && "log"].filter(Boolean);
  return html`<${FileLinks} title="Files" files=${files.map((file) => [runPath(name, `/files/${file}`), file])} />`;
}

export function Run() {
  const { runs, name } = useChosenRun();
  const { info, series, newest, steering: told, lastLines, problem, reload } = useRun(name);
  const steering = useSteering(name, info, told);
  if (!name) {
    return html`<${NoRun} title="No run yet">Draw a curve and start a training, or start <code>entrocraft train</code> in a terminal:
      runs in this folder appear here.<//>`;
  }
  if (problem && !info) return html`<${BrokenRun} ...${{ runs, name, problem }} view="run" />`;
  if (!info) return html`<div aria-busy="true"></div>`;
  const begun = series?.step.length > 0;
  return html`
    <div class="view">
      <div class="column">
        <${Card} tight class="o1">
          <${Head} ...${{ runs, name, info, steering, lastLines, reload }} />
          ${begun && html`<${Tiles} info=${info} series=${series} />`}
        <//>
        ${begun
          ? html`<${EntropyCard} key=${name} ...${{ info, series, steering }} />`
          : html`<${Card} title="Entropy"><p class="muted">${NO_STEP[info.state] ?? "This run has made no step."}</p><//>`}
      </div>
      <div class="column side">
        <${Completions} key=${name} name=${name} info=${info} newest=${newest} />
        <${Happened} info=${info} />
        ${info.steps && html`<${Files} name=${name} info=${info} />`}
      </div>
    </div>`;
}
