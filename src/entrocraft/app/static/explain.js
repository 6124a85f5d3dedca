// The view "Explain": what each rollout of a step would do to entropy, what was kept, and why.

import { html, useEffect, useMemo, useState } from "./vendor/vendor.js";
import { get, runPath } from "./api.js";
import { Chart, rangeOf, standing, stepRange, valuesOf } from "./chart.js";
import { Group, Mark, ModelText, TONES } from "./completions.js";
import { fixed, percent, plus, signed, visible } from "./format.js";
import { useRun, useStep } from "./follow.js";
import { BrokenRun, RunSelect, sideOf, useChosenRun } from "./runs.js";
import { Scatter } from "./scatter.js";
import { address, slide } from "./store.js";
import { Aside, Card, Chip, IconButton, Key, NoRun, Problem } from "./ui.js";

const MILLI = 1000;
const QUADRANTS = {
  positive_confident: "better, confident", positive_rare: "better, rare",
  negative_confident: "worse, confident", negative_rare: "worse, rare",
};

const verdictOf = (tokens, kept) => (kept >= tokens ? "kept" : kept > 0 ? "in part" : "left out");

/** The columns of a step's rollouts as one object each. */
function rolloutsOf({ rollouts }) {
  if (!rollouts) return [];
  return rollouts.reward.map((reward, index) => ({
    index, reward, group: rollouts.group[index], advantage: rollouts.advantage[index] ?? 0,
    change: rollouts.change?.[index] ?? null,
    tokens: rollouts.tokens[index], kept: rollouts.kept?.[index] ?? rollouts.tokens[index],
    verdict: verdictOf(rollouts.tokens[index], rollouts.kept?.[index] ?? rollouts.tokens[index]),
  }));
}

function StepStrip({ name, info, series, number, metrics }) {
  const { step, columns } = series;
  const tables = useMemo(() => {
    const lines = [{ id: "entropy", label: "measured", color: "measured", values: columns.entropy }];
    if (columns.target?.some((value) => value !== null)) {
      lines.unshift(
        { id: "upper", color: "band-edge", width: 1, values: columns.upper, fillTo: "lower", fill: "band-fill" },
        { id: "lower", color: "band-edge", width: 1, values: columns.lower },
        { id: "target", label: "target", color: "band", width: 1.3, values: columns.target },
      );
    }
    return [{ x: step, lines }];
  }, [series]);
  const last = step.at(-1);
  const to = (wanted) => slide("explain", name, String(Math.min(last, Math.max(step[0], wanted))));
  const { entropy, target, kept_token_fraction: kept } = metrics;
  const words = [
    `entropy ${fixed(entropy)}${target == null ? "" : `, target ${fixed(target)}: ${sideOf(metrics)}`}`,
    kept != null && `${percent(kept)} of the tokens kept`,
  ];
  return html`
    <${Card} class="o1" title=${`Step ${number}`} aside=${html`
      <span class="muted small">${words.filter(Boolean).join("; ")}</span>
      <span class="grow"></span>
      <${IconButton} icon="before" label="Step before" disabled=${number <= step[0]} onClick=${() => to(number - 1)} />
      <${IconButton} icon="next" label="Next step" disabled=${number >= last} onClick=${() => to(number + 1)} />`}>
      <${Chart} small label=${`Entropy over ${info.steps} steps; step ${number} is chosen`} tables=${tables}
        x=${stepRange(info.steps)} y=${rangeOf(valuesOf(tables), { least: 0.05 })} height=${128}
        over=${(place) => html`
          <i class="cut" style=${{ left: `${place.x(number)}px` }}></i>
          ${entropy != null && html`<i class="cut-dot" style=${standing(place.x(number), place.y(entropy))}></i>`}`} />
      <div class="step-slider">
        <input type="range" aria-label="Step" min="0" max=${info.steps} value=${number} onInput=${(event) => to(event.target.valueAsNumber)} />
      </div>
    <//>`;
}

function Quadrants({ quadrants }) {
  const most = Math.max(1e-12, ...quadrants.flatMap(({ all, kept }) => [Math.abs(all ?? 0), Math.abs(kept ?? 0)]));
  const Bar = ({ value, class: more }) => {
    const width = `${(48 * Math.abs(value ?? 0)) / most}%`;
    return html`<i class="${more} ${value < 0 ? "lowers" : "raises"}" style=${value < 0 ? { right: "50%", width } : { left: "50%", width }}></i>`;
  };
  return html`
    <div class="row"><${Key} tone="none" mark="block faint">all<//><${Key} tone="none" mark="block">what was kept<//></div>
    <ul class="quadrants">${quadrants.map(({ name, all, kept }) => html`
      <li key=${name}><span>${QUADRANTS[name] ?? name}</span>
        <span class="bars" aria-hidden="true"><${Bar} value=${all} class="all" /><${Bar} value=${kept} class="kept" /></span>
        <span class="number">${signed(MILLI * (kept ?? 0), 1)} <span class="faint">all ${signed(MILLI * (all ?? 0), 1)}</span></span></li>`)}</ul>
    <p class="small faint">10⁻³ nats per token and unit of step, predicted: what was kept does, beside what all would have done.</p>`;
}

/** Tokens tinted by what learning from each would do to entropy; those left out are struck through. */
function Tokens({ texts, changes, kept }) {
  const most = Math.max(1e-12, ...changes.map((change) => Math.abs(change ?? 0)));
  return html`<p class="tokens mono">${texts.map((text, i) => html`<span key=${i} class="${changes[i] < 0 ? "lowers" : "raises"} ${kept[i] ? "" : "out"}"
    style=${{ "--strength": `${Math.round((70 * Math.abs(changes[i] ?? 0)) / most)}%` }} title=${plus(changes[i])}>${visible(text)}</span>`)}</p>
    <div class="row"><${Key} tone="measured" mark="dot">raises entropy<//><${Key} tone="rival" mark="dot">lowers it<//>
      ${kept.includes(0) && html`<s class="small faint">left out</s>`}</div>`;
}

function Chosen({ rollout, text, group, count, onChoose }) {
  const step = (by) => onChoose((rollout.index + by + count) % count);
  const { index, reward, advantage, change, tokens, kept, verdict } = rollout;
  const words = verdict === "in part" ? `${kept} of ${tokens} tokens kept` : verdict;
  return html`
    <${Card} title="Chosen rollout" class="o4" aside=${html`<span class="muted small">${index + 1} of ${count}</span><span class="grow"></span>
      <${IconButton} icon="before" label="Rollout before" onClick=${() => step(-1)} />
      <${IconButton} icon="next" label="Next rollout" onClick=${() => step(1)} />`}>
      <div class="stack" aria-live="polite">
        ${group && html`<div class="small muted">Prompt <${ModelText} text=${group.prompt} /></div>`}
        ${text?.token_texts && text.token_changes
          ? html`<${Tokens} texts=${text.token_texts} changes=${text.token_changes} kept=${text.token_kept} />`
          : text ? html`<p class="said"><${Mark} reward=${reward} /><${ModelText} text=${text.text} /></p>`
          : html`<p class="small muted">Its text is not recorded: each step keeps the texts of a few prompts, in turn.</p>`}
        <div class="row"><${Chip}>reward ${fixed(reward, 2)}<//><${Chip}>advantage ${signed(advantage, 2)}<//>
          ${change !== null && html`<${Chip}>predicted ${plus(change)}<//>`}
          <${Chip}>${tokens} tokens<//><${Chip} tone=${TONES[verdict]}>${words}<//></div>
      </div>
    <//>`;
}

function WholeRun({ name }) {
  const [told, setTold] = useState(null);
  useEffect(() => {
    setTold(null);
    let wanted = true;
    get(runPath(name, "/explanation"))
      .then(({ text }) => wanted && setTold(text))
      .catch((error) => wanted && setTold(error.message));
    return () => {
      wanted = false;
    };
  }, [name]);
  return told && html`
    <${Card} title="The whole run" class="o6"><pre class="code" tabindex="0" aria-label="What explains the whole run">${told}</pre><//>`;
}

const Legend = () => html`
  <span class="grow"></span><${Key} tone="good" mark="dot">better than its group<//><${Key} tone="bad" mark="dot">worse<//>
  <${Key} tone="none" mark="half">kept in part<//><${Key} tone="none" mark="ring">left out<//>`;

function Step({ name, info, series, number }) {
  const [page, setPage] = useState(0);
  const [chosen, setChosen] = useState(null);
  const { step, problem } = useStep(name, number, page);
  const rollouts = useMemo(() => (step ? rolloutsOf(step) : []), [step]);
  useEffect(() => setPage(0), [name, number]);
  const withText = useMemo(() => new Map(step?.groups.flatMap((group) => group.rollouts.map((text) => [text.index, { group, text }]))), [step]);
  const moves = (rollout) => Math.abs(rollout.change ?? rollout.advantage);
  const telling = rollouts.filter(({ index }) => withText.has(index)).toSorted((a, b) => moves(b) - moves(a))[0];
  const rollout = rollouts[chosen] ?? telling ?? rollouts[0];
  const out = rollouts.filter(({ verdict }) => verdict === "left out").length;
  const near = info.rollout_steps.toSorted((a, b) => Math.abs(a - number) - Math.abs(b - number))[0];
  return html`
    <div class="view">
      <div class="column">
        <${StepStrip} ...${{ name, info, series, number }} metrics=${step?.metrics ?? {}} />
        ${problem && html`<${Problem}>${problem}<//>`}
        <${Card} class="o2" title="Rollouts of this step" aside=${html`<${Legend} />`}>
          ${rollouts.length > 0
            ? html`<${Scatter} rollouts=${rollouts} chosen=${rollout?.index} onChoose=${setChosen}
                label=${`${rollouts.length} rollouts by advantage and predicted change of entropy; ${out} are left out`} />
              ${rollouts.every(({ change }) => change === null) && html`
                <p class="small muted">This method predicts no change of entropy, so all stand on the line.</p>`}`
            : html`<p class="muted">The rollouts of this step are not recorded.
                ${near && html` Nearest: <a href=${address("explain", name, near)}>step ${near}</a>.`}</p>`}
        <//>
        ${step?.groups.length > 0 && html`
          <${Card} class="o5" tight title="By prompt" aside=${step.pages > 1 && html`<${Aside}>page ${page + 1} of ${step.pages}<//>
            <${IconButton} icon="before" label="Page before" disabled=${page === 0} onClick=${() => setPage(page - 1)} />
            <${IconButton} icon="next" label="Next page" disabled=${page + 1 >= step.pages} onClick=${() => setPage(page + 1)} />`}>
            <ul class="groups two" tabindex="0" aria-label="Rollouts by prompt">${step.groups.map((group) => html`
              <${Group} key=${group.group} group=${group} chosen=${rollout?.index} onChoose=${setChosen} />`)}</ul>
          <//>`}
        <${WholeRun} name=${name} />
      </div>
      <div class="column side">
        ${step?.quadrants?.length > 0 && html`
          <${Card} title="Which tokens move entropy" class="o3"><div class="stack"><${Quadrants} quadrants=${step.quadrants} />
            ${step.sentence && html`<p class="note">${step.sentence}</p>`}</div><//>`}
        ${rollout && html`<${Chosen} rollout=${rollout} count=${rollouts.length} onChoose=${setChosen} ...${withText.get(rollout.index) ?? {}} />`}
      </div>
    </div>`;
}

export function Explain() {
  const { runs, name, rest } = useChosenRun();
  const { info, series, problem } = useRun(name);
  if (!name) {
    return html`<${NoRun} title="Nothing to explain yet">Once a run has made a step, this shows what each of its rollouts does to entropy.<//>`;
  }
  if (problem && !info) return html`<${BrokenRun} ...${{ runs, name, problem }} view="explain" />`;
  if (!info) return html`<div aria-busy="true"></div>`;
  const made = series?.step.length > 0;
  const number = Number(rest[0]) || info.rollout_steps.at(-1) || series?.step.at(-1);
  return html`
    <div class="above"><${RunSelect} runs=${runs} name=${name} view="explain" />
      <span class="muted small">${info.method ?? "no control"}${info.steps && `, ${info.step} of ${info.steps} steps`}</span></div>
    ${made
      ? html`<${Step} key=${name} ...${{ name, info, series, number }} />`
      : html`<${Card} title="Explain"><p class="muted">This run has made no step yet.</p><//>`}`;
}
