// The editor in a notebook: the page's own modules as an anywidget, with Python behind it in the server's place.
//
// It lives in a shadow tree, so that neither the notebook's styles nor the page's reach the other.

import frame from "../../src/entrocraft/app/static/app.css";
import parts from "../../src/entrocraft/app/static/views.css";
import uplot from "../../src/entrocraft/app/static/vendor/vendor.css";
import { linesOf, spoken, useHistory } from "../../src/entrocraft/app/static/curve.js";
import { Editor, KeyHelp, KnotTable, Toolbar } from "../../src/entrocraft/app/static/editor.js";
import { update } from "../../src/entrocraft/app/static/store.js";
import { Problem } from "../../src/entrocraft/app/static/ui.js";
import { html, render as show, useEffect, useRef, useState } from "../../src/entrocraft/app/static/vendor/vendor.js";

const HOST = `
  :host { display: block; color: var(--ink); font: 14px/1.45 Inter, ui-sans-serif, system-ui, sans-serif; }
  details { margin-top: 8px; }`;
const STYLE = [uplot, frame, parts].join("\n").replaceAll(/:root(\[[^\]]+\])?/g, (_, own) => (own ? `:host(${own})` : ":host")) + HOST;
const LIGHT = "[data-jp-theme-light='true'], .vscode-light";
const DARK = "[data-jp-theme-light='false'], .vscode-dark, .vscode-high-contrast, .dark";
const EMPTY = { text: null, knots: null, lower: null, upper: null, width: 0, family: "drawn" };

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const begun = (curve) => ({ ...EMPTY, ...curve });

/** What the model holds under a name, as it changes. */
function useHeld(model, name) {
  const [held, setHeld] = useState(() => model.get(name));
  useEffect(() => {
    const look = () => setHeld(() => model.get(name));
    model.on(`change:${name}`, look);
    return () => model.off(`change:${name}`, look);
  }, []);
  return held;
}

/** The curve with its history, told to Python as it changes, and drawn anew if another view has changed it. */
function useShared(model) {
  const history = useHistory(() => begun(model.get("curve")));
  const told = useRef(history.now);
  useEffect(() => {
    if (same(history.now, told.current)) return;
    told.current = history.now;
    model.set("curve", history.now);
    model.set("request", spoken(history.now));
    model.save_changes();
  }, [history.now]);
  useEffect(() => {
    const listen = () => {
      const heard = begun(model.get("curve"));
      if (same(heard, told.current)) return;
      told.current = heard;
      history.change(heard);
    };
    model.on("change:curve", listen);
    return () => model.off("change:curve", listen);
  }, []);
  return history;
}

function Drawing({ model }) {
  const history = useShared(model);
  const steps = useHeld(model, "steps");
  const answer = useHeld(model, "answer");
  const problem = useHeld(model, "problem");
  const [selected, onSelect] = useState(() => [linesOf(history.now)[0][0], 0]);
  const editor = { history, answer, steps, selected, onSelect };
  return html`
    <section class="card" aria-label="Draw the curve">
      <header class="head"><${Toolbar} ...${editor} kinds=${model.get("kinds")} /></header>
      <div class="body">
        <${Editor} ...${editor} />
        ${problem && html`<${Problem}>${problem}<//>`}
        <${KeyHelp} />
        <details><summary>The knots as a table</summary><${KnotTable} ...${editor} /></details>
      </div>
    </section>`;
}

/** Light or dark as JupyterLab and VS Code say on the body, elsewhere as the system. */
function followLook(host) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const look = () => {
    const theme = document.body.matches(DARK) ? "dark" : document.body.matches(LIGHT) ? "light" : "system";
    host.dataset.theme = theme;
    update({ look: { theme, dark: theme === "system" ? system.matches : theme === "dark" } });
  };
  look();
  const observer = new MutationObserver(look);
  observer.observe(document.body, { attributes: true });
  return () => observer.disconnect();
}

function render({ model, el }) {
  const host = document.createElement("div");
  host.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the arrow keys to the knots
  el.append(host);
  const style = document.createElement("style");
  style.textContent = STYLE;
  const root = document.createElement("div");
  host.attachShadow({ mode: "open" }).append(style, root);
  const leaveLook = followLook(host);
  show(html`<${Drawing} model=${model} />`, root);
  return () => {
    leaveLook();
    show(null, root);
  };
}

export default { render };
