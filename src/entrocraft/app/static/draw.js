// The view "Draw": a curve by knots, as families, numbers and text, and the run that is to follow it.

import { html, useEffect, useState } from "./vendor/vendor.js";
import { get, post, runPath } from "./api.js";
import { hasEdges, inUnit, PACES, tidy, UNITS, useDrawn, useHistory } from "./curve.js";
import { Editor, editing, KeyHelp, KnotTable, Toolbar } from "./editor.js";
import { fixed } from "./format.js";
import { StartForm, useSettings } from "./start.js";
import { useStore } from "./store.js";
import { watch } from "./stream.js";
import { Card, Choice, CopyButton, Key, Problem } from "./ui.js";

const DRAWN = { name: "drawn", title: "drawn", points: null };

const knotsOf = (family) => family.knots ?? family.points.filter((_, index, all) => index % 3 === 0 || index === all.length - 1);

function firstCurve(hello, recipe) {
  const given = recipe?.curve;
  const family = hello.families.find(({ name }) => name === "linear") ?? hello.families[0];
  const curve = { text: null, kind: "linear", lower: null, upper: null, unit: "initial", width: 0.06, family: "drawn", ...given };
  if (curve.text) curve.family = /^\w+/.exec(curve.text)?.[0] ?? curve.family;
  return curve.knots || curve.lower ? curve : { ...curve, knots: knotsOf(family), text: curve.text ?? family.text, family: family.name };
}

/** The entropy of an earlier run, to draw against. */
function useGhost(name, unit) {
  const [ghost, setGhost] = useState(null);
  useEffect(() => {
    setGhost(null);
    if (!name) return undefined;
    let wanted = true;
    get(runPath(name, "/series?keys=entropy&points=400"))
      .then(({ step, columns }) => wanted && setGhost({ name, step, nats: columns.entropy }))
      .catch(() => {}); // a run that cannot be read says so in Compare
    return () => {
      wanted = false;
    };
  }, [name]);
  if (!ghost) return null;
  const one = unit === "nats" ? 1 : ghost.nats.find((value) => value > 0);
  return { ...ghost, values: ghost.nats.map((value) => value && value / one) };
}

function Families({ families, value, onChoose }) {
  const path = (points) => {
    const values = points.map(([, y]) => y);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const y = (each) => (high === low ? 10 : 18 - (14 * (each - low)) / (high - low));
    return points.map(([at, each], index) => `${index ? "L" : "M"}${(3 + 38 * at).toFixed(1)} ${y(each).toFixed(1)}`).join("");
  };
  return html`
    <div class="families" role="group" aria-label="Family of curves">
      ${families.map((family) => html`
        <button type="button" key=${family.name} aria-pressed=${String(value === family.name)} onClick=${() => onChoose(family)}>
          <svg viewBox="0 0 44 22" aria-hidden="true">${family.points
            ? html`<path d=${path(family.points)} />`
            : html`<path d="M3 6c8 0 12 1 17 5s10 6 21 6" /><circle cx="20" cy="11" r="2.6" fill="currentColor" />`}</svg>
          ${family.title}</button>`)}
    </div>`;
}

function ShapeCard({ hello, history, answer, start }) {
  const curve = history.now;
  const { onWidth } = editing(history);
  const most = curve.unit === "nats" ? 0.15 : 0.3;
  const choose = (family) => {
    if (family === DRAWN) return history.change({ ...curve, text: null, family: DRAWN.name });
    return history.change({
      ...curve, family: family.name, text: family.text, kind: family.kind, knots: knotsOf(family), lower: null, upper: null,
      unit: "initial", width: curve.unit === "initial" ? curve.width : inUnit(curve, "initial", start.value).width,
    });
  };
  const setEdges = (event) => {
    if (!event.target.checked) {
      const middle = curve.upper.map(([at, value], i) => [at, (value + (curve.lower[i]?.[1] ?? value)) / 2]);
      return history.change({ ...curve, lower: null, upper: null, knots: middle });
    }
    const moved = (by) => curve.knots.map(([at, value]) => [at, tidy(Math.max(0, value + by))]);
    return history.change({ ...curve, text: null, family: "drawn", upper: moved(curve.width / 2), lower: moved(-curve.width / 2) });
  };
  return html`
    <${Card} title="Shape" class="o2">
      <div class="stack">
        <${Families} families=${[...hello.families, DRAWN]} value=${curve.family} onChoose=${choose} />
        <div class="field">
          <div class="between">
            <label for="width">Width of the band</label>
            <output class="mono" for="width">${fixed(curve.width)} ${UNITS[curve.unit]}</output></div>
          <input id="width" type="range" min="0" max=${most} step=${PACES[curve.unit].fine} value=${curve.width} disabled=${hasEdges(curve)}
            onInput=${(event) => onWidth(event.target.valueAsNumber)} />
        </div>
        <label class="check"><input type="checkbox" checked=${hasEdges(curve)} disabled=${!answer} onChange=${setEdges} />
          Draw both edges on their own</label>
      </div>
    <//>`;
}

function KnotCard({ history, start, ...rest }) {
  const curve = history.now;
  const change = (unit) => unit !== curve.unit && history.change(inUnit(curve, unit, start.value));
  const other = curve.unit === "nats" ? "initial" : "nats";
  const choice = html`<${Choice} label="Unit" options=${[["nats", "nats per token"], ["initial", "× first step"]]} value=${curve.unit}
    disabled=${start ? [] : [other]} onChoose=${change} />`;
  return html`
    <${Card} title="Knots" aside=${choice} class="o5">
      <${KnotTable} history=${history} ...${rest} />
      ${!start && html`<p class="small faint">The other unit can be chosen once a run of this recipe has measured where entropy starts.</p>`}
    <//>`;
}

const FORMATS = { yaml: ["YAML", "curve.yaml"], python: ["Python", "curve.py"], command: ["command", "train.sh"] };

function TextCard({ answer, history, steps, initial }) {
  const [format, setFormat] = useState("yaml");
  const [problem, setProblem] = useState(null);
  const text = answer?.[format] ?? "";
  const download = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = FORMATS[format][1];
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const load = async (event) => {
    const [file] = event.target.files;
    try {
      const read = await post("curve", { yaml: await file.text(), steps, initial });
      const { knots, lower_knots: lower = null, upper_knots: upper = null, kind, unit } = read;
      history.change(({ width }) => ({ text: null, family: "drawn", knots, lower, upper, kind, unit, width: read.width ?? width }));
      setProblem(null);
    } catch (error) {
      setProblem(error.message);
    }
    event.target.value = "";
  };
  const formats = Object.entries(FORMATS).map(([key, [name]]) => [key, name]);
  const choice = html`<${Choice} label="Format" options=${formats} value=${format} onChoose=${setFormat} />`;
  return html`
    <${Card} title="The same curve as" aside=${choice} class="o6">
      <pre class="code folded" tabindex="0" aria-label=${`The curve as ${FORMATS[format][0]}`}>${text}</pre>
      <div class="row">
        <${CopyButton} text=${() => text} />
        <button type="button" class="button" onClick=${download}>Download</button>
        <label class="button quiet">Load a file…<input class="unseen" type="file" accept=".yaml,.yml,.txt" onChange=${load} /></label>
      </div>
      ${problem && html`<${Problem}>${problem}<//>`}
    <//>`;
}

const ghostsFor = (wanted, runs) =>
  runs.filter(({ state, kind, recipe }) => state !== "broken" && kind !== "study" && (!recipe || recipe === wanted));

export function Draw({ hello }) {
  const runs = useStore((state) => state.runs);
  const settings = useSettings(hello, runs);
  const { recipe, method } = settings;
  const { steps } = settings.values;
  const history = useHistory(() => firstCurve(hello, recipe));
  const curve = history.now;
  useEffect(() => watch([]), []);
  const [selected, setSelected] = useState(() => ["knots", Math.floor((curve.knots?.length ?? 0) / 2)]);
  const start = hello.entropy_start;
  const initial = start?.value ?? null;
  const context = { steps, points: 300, initial, recipe: recipe?.name, settings: settings.spoken() };
  const { answer, problem } = useDrawn(curve, context);

  const behind = ghostsFor(recipe?.name, runs);
  const [ghostName, setGhostName] = useState(undefined);
  const shownGhost = ghostName ?? behind.toSorted((a, b) => b.changed - a.changed)[0]?.name ?? "";
  const ghost = useGhost(shownGhost, curve.unit);
  const one = start && (curve.unit === "initial" ? start.value : 1);
  const shownStart = start && {
    value: start.value / one, low: start.low / one, high: start.high / one,
    text: `${start.source} started at ${fixed(start.value)} ± ${fixed((start.high - start.low) / 2)} nats`,
  };
  const editor = { history, steps, selected, onSelect: setSelected };
  return html`
    <div class="view" aria-label="Draw the curve">
      <div class="column">
        <${Card} title="Where should entropy be?" class="o1" aside=${html`<${Toolbar} ...${editor} kinds=${hello.kinds} answer=${answer} />`}>
          <${Editor} ...${editor} answer=${answer} ghost=${ghost} start=${shownStart} />
          ${problem && html`<${Problem}>${problem}<//>`}
          ${!method.has_target && html`
            <p class="note warn">The method ${method.name} follows no curve: this one would only be drawn beside the run.</p>`}
          <div class="between wrap legend">
            <div class="row">
              <${Key} tone="band">target<//><${Key} tone="band" mark="fill">band<//>
              ${behind.length > 0 && html`<label class="key tone-rival"><i class="line"></i>behind it
                <select class="inline" value=${shownGhost} onChange=${(event) => setGhostName(event.target.value)}>
                  <option value="">nothing</option>
                  ${behind.map(({ name }) => html`<option key=${name} value=${name} selected=${name === shownGhost}>${name}</option>`)}
                </select></label>`}
            </div>
            <${KeyHelp} />
          </div>
        <//>
        <div class="split o5">
          <${KnotCard} ...${editor} start=${start} />
          <${TextCard} ...${{ answer, history, steps, initial }} />
        </div>
      </div>
      <div class="column side">
        <${ShapeCard} hello=${hello} history=${history} answer=${answer} start=${start} />
        <${StartForm} hello=${hello} runs=${runs} settings=${settings} curve=${curve} />
      </div>
    </div>`;
}
