// The page: its frame, and which view is in it.

import { html, render, useEffect, useState } from "./vendor/vendor.js";
import { get } from "./api.js";
import { Compare } from "./compare.js";
import { Draw } from "./draw.js";
import { Explain } from "./explain.js";
import { Run } from "./run.js";
import { address, setTheme, update, useStore, VIEWS } from "./store.js";
import { Empty, Icon, IconButton } from "./ui.js";

const TITLES = { draw: "Draw", run: "Run", compare: "Compare", explain: "Explain" };
const PAGES = { draw: Draw, run: Run, compare: Compare, explain: Explain };
const THEMES = ["system", "light", "dark"];

function Logo() {
  return html`<a class="brand" href=${address("draw")}>
    <img src="static/icon.svg" width="26" height="26" alt="" />entrocraft</a>`;
}

function ThemeButton() {
  const { theme } = useStore((state) => state.look);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const label = `Look: ${theme === "system" ? "as the system" : theme}. Change to ${next === "system" ? "as the system" : next}`;
  return html`<${IconButton} icon=${theme} label=${label} onClick=${() => setTheme(next)} />`;
}

function Training() {
  const run = useStore((state) => state.runs.find(({ state: now }) => now === "running"));
  if (!run) return null;
  const progress = run.steps ? `${run.step} / ${run.steps}` : "loading";
  return html`
    <a class="pill" href=${address("run", run.name)}>
      <span key=${run.step} class="dot live"></span><b>${run.name}</b><span class="number">${progress}</span></a>`;
}

function Connection() {
  const connection = useStore((state) => state.connection);
  return html`<div role="status">${connection === "lost" &&
    html`<p class="banner">The connection to the server is lost. The page tries again; training goes on without it.</p>`}</div>`;
}

function Header({ folder }) {
  const { view } = useStore((state) => state.place);
  return html`
    <header class="top">
      <button type="button" class="skip" onClick=${() => document.getElementById("stage").focus()}>Skip to the content</button>
      <${Logo} />
      <nav class="tabs" aria-label="Views">${VIEWS.map((each) => html`
        <a key=${each} href=${address(each)} aria-current=${each === view ? "page" : undefined}>
          <${Icon} name=${each} size="21" />${TITLES[each]}</a>`)}</nav>
      <span class="grow"></span>
      ${folder && html`<span class="pill folder" title="The folder that is read">${folder}</span>`}
      <${Training} />
      <${ThemeButton} />
    </header>`;
}

function Page() {
  const hello = useStore((state) => state.hello);
  const { view } = useStore((state) => state.place);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    Promise.all([get("hello"), get("runs")])
      .then(([answer, { runs }]) => update({ hello: answer, runs }))
      .catch(setProblem);
  }, []);
  useEffect(() => {
    document.title = `${TITLES[view]} · entrocraft`;
    if (view === "draw" && hello) get("hello").then((answer) => update({ hello: answer }), () => {}); // a run may have measured the start
  }, [view]);
  if (problem?.status === 401) {
    return html`<main><${Empty} title="This page needs its token">Open the address that <code>entrocraft app</code> printed, with its token;
      <code>entrocraft app --url</code> prints it again.<//></main>`;
  }
  if (problem) return html`<main><${Empty} title="Nothing to show">${problem.message}<//></main>`;
  const View = PAGES[view];
  return html`
    <${Header} folder=${hello?.folder} />
    <${Connection} />
    <main id="stage" tabindex="-1" aria-busy=${String(!hello)}>
      <h1 class="unseen">${TITLES[view]}</h1>${hello && html`<${View} hello=${hello} />`}</main>`;
}

render(html`<${Page} />`, document.getElementById("page"));
