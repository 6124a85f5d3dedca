// What the whole page shares: what the server can do, the runs, where the page is, how it looks.

import { useEffect, useState } from "./vendor/vendor.js";

export const VIEWS = ["draw", "run", "compare", "explain"];

export const state = {
  hello: null,
  runs: [],
  place: parsePlace(location.hash),
  look: { theme: document.documentElement.dataset.theme ?? "system", dark: false },
  connection: "opening",
};

const listeners = new Set();

export function update(changes) {
  Object.assign(state, changes);
  for (const listener of listeners) listener();
}

/** Redraw the component when what it picks from the state changes. */
export function useStore(pick) {
  const [picked, setPicked] = useState(() => pick(state));
  useEffect(() => {
    const look = () => setPicked(() => pick(state));
    listeners.add(look);
    look();
    return () => listeners.delete(look);
  }, []);
  return picked;
}

// ---- where the page is: #view/first/second ----------------------------------------------------------------------

function parsePlace(hash) {
  const [view, ...parts] = hash.slice(1).split("/");
  return VIEWS.includes(view) ? { view, parts: parts.map(decodeURIComponent) } : { view: "draw", parts: [] };
}

export const address = (view, ...parts) => `#${[view, ...parts.map((part) => encodeURIComponent(part))].join("/")}`;

export const go = (view, ...parts) => {
  location.hash = address(view, ...parts);
};

/** Go there without a step in the browser's history, for what changes many times a second. */
export const slide = (view, ...parts) => {
  history.replaceState(null, "", address(view, ...parts));
  update({ place: parsePlace(location.hash) });
};

addEventListener("hashchange", () => update({ place: parsePlace(location.hash) }));

// ---- how it looks -----------------------------------------------------------------------------------------------

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = (theme) => (theme === "system" ? systemIsDark.matches : theme === "dark");

export function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("entrocraft-theme");
    else localStorage.setItem("entrocraft-theme", theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  update({ look: { theme, dark: isDark(theme) } });
}

state.look.dark = isDark(state.look.theme);
systemIsDark.addEventListener("change", () => setTheme(state.look.theme));

const narrow = matchMedia("(max-width: 720px)");

/** Whether the page is as narrow as a phone. */
export function useNarrow() {
  const [matches, setMatches] = useState(narrow.matches);
  useEffect(() => {
    const look = () => setMatches(narrow.matches);
    narrow.addEventListener("change", look);
    return () => narrow.removeEventListener("change", look);
  }, []);
  return matches;
}
