// The chart on which a curve is drawn, with its toolbar and its table of knots.

import { html, useMemo, useRef, useState } from "./vendor/vendor.js";
import { Chart, rangeOf, standing, stepRange, valuesOf } from "./chart.js";
import { allowed, hasEdges, linesOf, replaced, tidy, UNITS } from "./curve.js";
import { fixed, percent } from "./format.js";
import { addKnot, Knots, removeKnot } from "./knots.js";
import { Choice, IconButton, Icon, NumberInput } from "./ui.js";
import { useNarrow } from "./store.js";

const KINDS = { linear: "straight", monotone: "smooth", cosine: "cosine", step: "steps" };

/** How the editor changes a curve: knots by line, the band's width, and what lies between knots. */
export function editing(history) {
  const drawn = { text: null, family: "drawn" };
  return {
    onChange: (name, knots, tag) => history.change((curve) => ({ ...curve, ...drawn, [name]: knots }), tag),
    onWidth: (width) => history.change((curve) => ({ ...curve, width: tidy(Math.max(0, width)) }), "width"),
    onKind: (kind) => history.change((curve) => ({ ...curve, ...drawn, kind })),
  };
}

export function Toolbar({ history, kinds, answer, steps, selected, onSelect }) {
  const curve = history.now;
  const { onChange, onKind } = editing(history);
  return html`
    <${Choice} label="Between knots" class="stretch" value=${curve.kind} onChoose=${onKind}
      options=${kinds.map((kind) => [kind, KINDS[kind] ?? kind])} />
    <${IconButton} icon="undo" label="Undo" disabled=${!history.canUndo} onClick=${history.undo} />
    <${IconButton} icon="redo" label="Redo" disabled=${!history.canRedo} onClick=${history.redo} />
    <button type="button" class="button" onClick=${() => addKnot({ lines: linesOf(curve), answer, steps, selected, onChange, onSelect })}>
      <${Icon} name="plus" size="15" />Add knot</button>`;
}

/** Where entropy starts: a whisker as long as its interval, and the number. */
const Start = ({ start, place }) => html`
  <div class="whisker" style=${{ ...standing(place.x(0), place.y(start.high)), height: `${place.y(start.low) - place.y(start.high)}px` }}></div>
  <div class="flag" style=${standing(place.x(0) - 6, 0)}>${start.text}</div>`;

/** `ghost`: {name, step, values} of a run to draw against; `start`: {value, low, high, text} of the entropy that the
 * model starts with, in the curve's unit. */
export function Editor({ history, answer, steps, ghost, start, selected, onSelect }) {
  const curve = history.now;
  const narrow = useNarrow();
  const [dragging, setDragging] = useState(false);
  const frozen = useRef(null);
  const { onChange, onWidth } = editing(history);

  const tables = useMemo(() => {
    const all = [];
    if (answer) {
      all.push({
        x: answer.step,
        lines: [
          { id: "upper", color: "band-edge", width: 1, values: answer.upper, fillTo: "lower", fill: "band-fill" },
          { id: "lower", color: "band-edge", width: 1, values: answer.lower },
          { id: "target", label: "target", color: "band", width: 2.5, values: answer.target },
        ],
      });
    }
    if (ghost) all.push({ x: ghost.step, lines: [{ id: "ghost", label: ghost.name, color: "rival", width: 1.4, alpha: 0.6, values: ghost.values }] });
    return all.length ? all : [{ x: [0, steps], lines: [] }];
  }, [answer, ghost, steps]);

  if (!dragging || !frozen.current) {
    const knots = linesOf(curve).flatMap(([, , line]) => line.map(([, value]) => value));
    frozen.current = rangeOf([...valuesOf(tables), ...knots, start?.value], { air: 0.16, least: 0.1, floor: 0 });
  }
  const ends = linesOf(curve)[0][2];
  const label = ends.length
    ? `Target of entropy over ${steps} steps, from ${fixed(ends[0][1])} to ${fixed(ends.at(-1)[1])} ${UNITS[curve.unit]}, with its band`
    : `Target of entropy over ${steps} steps, with its band`;
  return html`
    <${Chart} label=${label} tables=${tables} x=${stepRange(steps)} y=${frozen.current} height=${narrow ? 300 : 404}
      over=${(place) => html`
        ${start && html`<${Start} ...${{ start, place }} />`}
        <${Knots} ...${{ place, answer, steps, selected, onSelect, onChange }} lines=${linesOf(curve)} unit=${curve.unit} width=${curve.width}
          onWidth=${hasEdges(curve) ? null : onWidth} onDrag=${setDragging} onUndo=${history.undo} onRedo=${history.redo} />`} />`;
}

export const KeyHelp = () => html`
  <p class="key-help faint"><kbd>Tab</kbd> next knot <kbd>←↑↓→</kbd> move <kbd>Shift</kbd> finer
    <kbd>Enter</kbd> add <kbd>Del</kbd> remove</p>`;

/** The same knots as numbers: the way to draw without dragging. */
export function KnotTable({ history, steps, selected, onSelect }) {
  const curve = history.now;
  const { onChange } = editing(history);
  const digits = 3;
  const take = (name, knots, index, knot) => onChange(name, replaced(knots, index, allowed(knots, index, knot, steps)));
  return html`
    <div class="scroll-x" tabindex="0" role="region" aria-label="Table of knots">
      <table class="knots">
        <thead><tr><th scope="col">at</th><th scope="col">step</th><th scope="col">target</th><th><span class="unseen">Remove</span></th></tr></thead>
        ${linesOf(curve).map(([name, title, knots]) => html`
          <tbody key=${name}>
            ${hasEdges(curve) && html`<tr><th scope="rowgroup" colspan="4">${title}</th></tr>`}
            ${knots.map(([at, value], index) => html`
              <tr key=${index} data-selected=${selected[0] === name && selected[1] === index ? "" : undefined}
                onFocusCapture=${() => onSelect([name, index])}>
                <td>${percent(at)}</td>
                <td><${NumberInput} label=${`Step of ${title.toLowerCase()} ${index + 1}`} value=${Math.round(at * steps)} min="0" max=${steps}
                  disabled=${index === 0} onNumber=${(step) => take(name, knots, index, [step / steps, value])} /></td>
                <td><${NumberInput} label=${`Target of ${title.toLowerCase()} ${index + 1}`} value=${value} digits=${digits} min="0" step="0.001"
                  onNumber=${(target) => take(name, knots, index, [at, target])} /></td>
                <td><button type="button" class="plain" aria-label=${`Remove ${title.toLowerCase()} ${index + 1}`}
                  disabled=${index === 0 || knots.length <= 2}
                  onClick=${() => removeKnot({ name, knots, index, onChange, onSelect })}><${Icon} name="cross" size="14" /></button></td>
              </tr>`)}
          </tbody>`)}
      </table>
    </div>`;
}
