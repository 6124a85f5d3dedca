// The form that starts a training: recipe, method with its options, estimator, steps, seed and name.

import { html, useState } from "./vendor/vendor.js";
import { post } from "./api.js";
import { spoken as spokenCurve } from "./curve.js";
import { whole } from "./format.js";
import { address, go } from "./store.js";
import { Card, Field, NumberInput, Problem, Select } from "./ui.js";

/** The first name of the form recipe-01 that no run has. */
function freeName(recipe, runs) {
  const taken = new Set(runs.map(({ name }) => name));
  for (let number = 1; ; number += 1) {
    const name = `${recipe}-${String(number).padStart(2, "0")}`;
    if (!taken.has(name)) return name;
  }
}

/** What the library's own documentation says, without its marks of code. */
const said = (summary) => summary?.replaceAll("`", "");

/** A number if it is one: an option without a default may be either. */
const numberOrText = (text) => (text.trim() && Number.isFinite(Number(text)) ? Number(text) : text);

const ofRecipe = (recipe, hello) => ({
  recipe: recipe?.name ?? "",
  method: recipe?.method ?? "token",
  estimator: recipe?.estimator ?? "grpo",
  steps: recipe?.budget.steps ?? 100,
  seed: recipe?.config?.seed ?? 0,
  options: {},
  name: null,
});

/** What the form says: values, what they mean, and how to change them. */
export function useSettings(hello, runs) {
  const [values, setValues] = useState(() => ofRecipe(hello.recipes[0], hello));
  const recipe = hello.recipes.find(({ name }) => name === values.recipe);
  const method = hello.methods.find(({ name }) => name === values.method) ?? { name: values.method, options: [], has_target: true };
  const set = (changes) =>
    setValues((now) => (changes.recipe ? ofRecipe(hello.recipes.find(({ name }) => name === changes.recipe), hello) : { ...now, ...changes }));
  const { steps, seed, estimator, options } = values;
  return {
    values, recipe, method, set,
    name: values.name ?? freeName(values.recipe || "run", runs),
    spoken: () => ({ steps, seed, estimator, method: method.name, method_options: options }),
  };
}

function Option({ option, value, onValue }) {
  const { name, summary } = option;
  const given = value ?? option.default;
  if (typeof option.default === "boolean") {
    return html`<label class="check"><input type="checkbox" checked=${given} onChange=${(event) => onValue(event.target.checked)} />
      <span>${name} <span class="faint">${said(summary)}</span></span></label>`;
  }
  const take = (event) => onValue(event.target.value ? numberOrText(event.target.value) : undefined);
  return html`
    <${Field} label=${name} hint=${said(summary)}>${(id) =>
      typeof option.default === "number"
        ? html`<${NumberInput} id=${id} value=${given} step="any" onNumber=${onValue} />`
        : html`<input id=${id} type="text" value=${given ?? ""} placeholder="default" onChange=${take} />`}
    <//>`;
}

function Options({ settings }) {
  const { method, values, set } = settings;
  if (!method.options.length) return null;
  const choose = (name) => (value) => {
    const { [name]: _, ...others } = values.options;
    set({ options: value === undefined ? others : { ...others, [name]: value } });
  };
  return html`
    <details>
      <summary>Options of ${method.name}</summary>
      <div class="stack">${method.options.map((option) => html`
        <${Option} key=${method.name + option.name} option=${option} value=${values.options[option.name]} onValue=${choose(option.name)} />`)}</div>
    </details>`;
}

/** A whole number in a range. */
const Whole = ({ label, value, least, most = Infinity, onNumber }) => html`
  <${Field} label=${label}>${(id) => html`
    <${NumberInput} id=${id} value=${value} min=${least} max=${most} step="1"
      onNumber=${(number) => onNumber(Math.min(most, Math.max(least, Math.round(number))))} />`}<//>`;

/** What stands in the way of a training, or comes before it. */
const Before = ({ hello, training, queued }) => html`
  ${!hello.can_train && html`<p class="small muted">${hello.why_not}</p>`}
  ${training && !queued && html`
    <p class="small muted"><a href=${address("run", training.name)}>${training.name}</a> is training; this one starts after it.</p>`}
  ${queued && html`
    <p class="small muted"><a href=${address("run", queued.name)}>${queued.name}</a> waits already; one run trains and one waits.</p>`}`;

export function StartForm({ hello, runs, settings, curve }) {
  const { values, recipe, method, set, name } = settings;
  const [answer, setAnswer] = useState(null);
  const [busy, setBusy] = useState(false);
  const training = runs.find(({ live, state }) => live && state === "running");
  const queued = runs.find(({ state }) => state === "queued");
  const named = (list) => list.map((each) => [each.name, each.name]);

  const send = async (check) => {
    setBusy(true);
    setAnswer(null);
    const body = { recipe: values.recipe, name, curve: method.has_target ? spokenCurve(curve) : null, settings: settings.spoken() };
    try {
      const told = await post(check ? "runs?check=1" : "runs", body);
      if (check) setAnswer({ message: told.message });
      else {
        set({ name: null });
        go("run", told.name);
      }
    } catch (error) {
      setAnswer({ problem: error.message });
    }
    setBusy(false);
  };
  const submit = (event) => {
    event.preventDefault();
    send(false);
  };
  const nameIt = ({ target }) => {
    const fits = new RegExp(`^(?:${hello.limits.name})$`).test(target.value);
    target.setCustomValidity(fits ? "" : "Small letters, digits, dots, dashes and underscores; at most 64, and a letter or digit first.");
    set({ name: target.value });
  };
  const { prompts, rollouts } = recipe?.budget ?? {};
  const size = prompts * rollouts;
  const budget = size ? `${whole(values.steps * size)} rollouts in ${whole(values.steps)} steps of ${prompts} prompts × ${rollouts}. ` : "";
  return html`
    <${Card} title="Run" class="o3">
      <form class="stack" onSubmit=${submit}>
        <${Select} label="Recipe" options=${named(hello.recipes)} value=${values.recipe} onChoose=${(each) => set({ recipe: each })} />
        ${recipe?.title !== recipe?.name && html`<p class="small muted about">${recipe.title}</p>`}
        <div class="pair">
          <${Select} label="Method" options=${named(hello.methods)} value=${values.method} onChoose=${(each) => set({ method: each, options: {} })} />
          <${Select} label="Estimator" options=${named(hello.estimators)} value=${values.estimator} onChoose=${(each) => set({ estimator: each })} />
        </div>
        ${method.summary && html`<p class="small muted about">${said(method.summary)}</p>`}
        <${Options} settings=${settings} />
        <div class="pair">
          <${Whole} label="Steps" value=${values.steps} least=${1} most=${hello.limits.steps} onNumber=${(steps) => set({ steps })} />
          <${Whole} label="Seed" value=${values.seed} least=${0} onNumber=${(seed) => set({ seed })} />
        </div>
        <${Field} label="Name">${(id) => html`
          <input id=${id} type="text" value=${name} autocomplete="off" spellcheck="false" required onInput=${nameIt} />`}<//>
        <p class="small muted">${budget}Written to <span class="mono">${hello.folder}/${name}</span>.</p>
        <div class="row">
          <button type="submit" class="button strong grow" disabled=${busy || !hello.can_train || Boolean(queued)}>
            ${training ? "Start after it" : "Start training"}</button>
          <button type="button" class="button" disabled=${busy || !hello.can_train} onClick=${() => send(true)}>Check only</button>
        </div>
        <div aria-live="polite">
          <${Before} ...${{ hello, training, queued }} />
          ${busy && html`<p class="small muted">One moment…</p>`}
          ${answer?.message && html`<p class="note pre">${answer.message}</p>`}
        </div>
        ${answer?.problem && html`<${Problem}>${answer.problem}<//>`}
      </form>
    <//>`;
}
