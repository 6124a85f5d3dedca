// Knots laid over a chart: HTML sliders that mouse, touch and keyboard move.

import { html, useEffect, useRef } from "./vendor/vendor.js";
import { allowed, gapAfter, PACES, replaced, UNITS, valueAt, without } from "./curve.js";
import { standing } from "./chart.js";
import { fixed, percent } from "./format.js";

const TIP_HALF = 78; // pixels
const ARROWS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const SPOKEN = { nats: "nats", initial: "times the first step's entropy" };
const PAGES = { PageUp: 1, PageDown: -1 };

function Knot({ place, at, value, name, text, tone, locked, selected, onSelect, onMove, onDrag, onKey }) {
  const drag = useRef(null);
  const button = useRef(null);
  const shownBefore = useRef(false);
  useEffect(() => {
    const focused = button.current?.getRootNode().activeElement;
    const follows = !focused || focused === document.body || focused.classList.contains("knot");
    if (selected && shownBefore.current && follows) button.current?.focus({ preventScroll: true });
    shownBefore.current = true;
  }, [selected]);
  const style = standing(place.x(at), place.y(value));
  if (locked) return html`<i class="knot locked tone-${tone}" style=${style}></i>`;
  const press = (event) => {
    if (event.button) return;
    event.preventDefault();
    const { currentTarget: knot, clientX, clientY } = event;
    knot.setPointerCapture(event.pointerId);
    knot.focus({ preventScroll: true });
    drag.current = { x: clientX - place.x(at), y: clientY - place.y(value) };
    onSelect();
    onDrag(true);
  };
  const move = (event) => {
    if (!drag.current) return;
    const y = Math.min(place.height, Math.max(0, event.clientY - drag.current.y));
    onMove(place.stepAt(event.clientX - drag.current.x), place.valueAt(y));
  };
  const release = () => {
    if (!drag.current) return;
    drag.current = null;
    onDrag(false);
  };
  return html`
    <button ref=${button} type="button" class="knot tone-${tone}" role="slider" aria-orientation="vertical" aria-label=${name}
      aria-valuemin="0" aria-valuenow=${value} aria-valuemax=${Math.max(value, place.valueAt(0)).toFixed(3)} aria-valuetext=${text}
      data-selected=${selected ? "" : undefined} style=${style} onFocus=${onSelect} onKeyDown=${onKey}
      onPointerDown=${press} onPointerMove=${move} onPointerUp=${release} onPointerCancel=${release}></button>`;
}

/** The bar at the band's upper edge, beside the selected knot. */
function WidthBar({ place, step, target, width, unit, onWidth, onDrag }) {
  const x = Math.min(place.width - 22, Math.max(22, place.x(step)));
  const dragged = useRef(false);
  const move = (event) => {
    if (!dragged.current) return;
    const top = event.currentTarget.parentElement.getBoundingClientRect().top;
    onWidth(2 * Math.max(0, place.valueAt(event.clientY - top) - target));
  };
  const press = (event) => {
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    event.currentTarget.focus({ preventScroll: true });
    dragged.current = true;
    onDrag(true);
  };
  const release = () => {
    dragged.current = false;
    onDrag(false);
  };
  const key = (event) => {
    const way = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    onWidth(width + way * PACES[unit].fine * (event.shiftKey ? 1 : 2));
  };
  return html`
    <button type="button" class="width-bar" role="slider" aria-orientation="vertical" aria-label="Width of the band"
      aria-valuemin="0" aria-valuenow=${width} aria-valuemax="1" aria-valuetext=${`${fixed(width)} ${SPOKEN[unit]}`}
      style=${standing(x, place.y(target + width / 2))} onKeyDown=${key}
      onPointerDown=${press} onPointerMove=${move} onPointerUp=${release} onPointerCancel=${release}></button>`;
}

function Tip({ place, at, value, unit, steps }) {
  const left = Math.min(place.width - TIP_HALF, Math.max(TIP_HALF, place.x(at * steps)));
  return html`
    <div class="tip" style=${standing(left, place.y(value))} aria-hidden="true">
      ${fixed(value)} ${UNITS[unit]} <small>step ${Math.round(at * steps)} · ${percent(at)}</small></div>`;
}

/**
 * The knots of one or two lines.
 *
 * `lines`: [[name, title, knots]]; `earliest` is the fraction of the run that is over, whose knots stay;
 * `onChange(name, knots, tag)` gets the line with one knot changed.
 */
export function Knots(props) {
  const { place, lines, answer, steps, unit, width, tone = "band", earliest = 0, selected } = props;
  const { onSelect, onChange, onWidth, onDrag, onUndo, onRedo } = props;
  const [line, index] = selected;
  const knots = lines.find(([name]) => name === line)?.[2] ?? [];
  const chosen = knots[index];

  const move = (name, all, i, at, value) =>
    onChange(name, replaced(all, i, allowed(all, i, [at, value], steps, earliest)), `move ${name} ${i}`);

  const keyOf = (name, all, i) => (event) => {
    const [at, value] = all[i];
    const pace = PACES[unit];
    const arrow = ARROWS[event.key];
    const page = PAGES[event.key];
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") (event.shiftKey ? onRedo : onUndo)();
    else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "y") onRedo();
    else if (arrow) move(name, all, i, at + arrow[0] / steps, value + arrow[1] * (event.shiftKey ? pace.fine : pace.arrow));
    else if (page) move(name, all, i, at, value + page * pace.page);
    else if (event.key === "Home") move(name, all, i, at, place.valueAt(place.height));
    else if (event.key === "End") move(name, all, i, at, place.valueAt(0));
    else if (event.key === "Enter") addKnot({ lines, answer, steps, earliest, selected: [name, i], onChange, onSelect });
    else if (event.key === "Delete" || event.key === "Backspace") removeKnot({ name, knots: all, index: i, earliest, onChange, onSelect });
    else return;
    event.preventDefault();
  };

  const beside = chosen && place.x(chosen[0] * steps) + (place.x(chosen[0] * steps) > place.width - 60 ? -42 : 42);
  const barStep = chosen && place.stepAt(beside);
  return html`
    ${onWidth && chosen && answer && html`<${WidthBar} ...${{ place, width, unit, onWidth, onDrag }} step=${barStep}
      target=${valueAt(answer, "knots", Math.max(0, barStep / steps), steps)} />`}
    ${lines.map(([name, title, all]) => all.map(([at, value], i) => html`
      <${Knot} key=${name + i} place=${place} at=${at * steps} value=${value} tone=${tone} name=${`${title} ${i + 1}`}
        text=${`${fixed(value)} ${SPOKEN[unit]} at step ${Math.round(at * steps)}`}
        locked=${earliest > 0 && at <= earliest} selected=${name === line && i === index}
        onSelect=${() => onSelect([name, i])} onDrag=${onDrag} onKey=${keyOf(name, all, i)}
        onMove=${(step, target) => move(name, all, i, step / steps, target)} />`))}
    ${chosen && !(earliest > 0 && chosen[0] <= earliest) && html`<${Tip} ...${{ place, unit, steps }} at=${chosen[0]} value=${chosen[1]} />`}`;
}

/** Put a knot onto the line where there is most room for it. */
export function addKnot({ lines, answer, steps, earliest = 0, selected, onChange, onSelect }) {
  const [name, , knots] = lines.find(([each]) => each === selected[0]) ?? lines[0];
  const gap = gapAfter(knots, steps, name === selected[0] ? selected[1] : null, earliest);
  if (!gap || !answer) return;
  const knot = [gap.at, valueAt(answer, name, gap.at, steps)];
  const more = [...knots.slice(0, gap.index), knot, ...knots.slice(gap.index)];
  onChange(name, replaced(more, gap.index, allowed(more, gap.index, knot, steps, earliest)));
  onSelect([name, gap.index]);
}

/** Take a knot away; the first one, and those of the past, stay. */
export function removeKnot({ name, knots, index, earliest = 0, onChange, onSelect }) {
  if (index === 0 || knots.length <= 2 || (earliest > 0 && knots[index][0] <= earliest)) return;
  onChange(name, without(knots, index));
  onSelect([name, Math.min(index, knots.length - 2)]);
}
