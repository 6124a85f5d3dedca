// The curve being drawn: its knots, their history, and the server that works out everything between them.
//
// A curve is {text, knots, lower, upper, kind, unit, width, family}. `text` is a schedule as people write it; it counts
// until a knot is moved. Two edges drawn on their own stand in `lower` and `upper`, and then `knots` do not count.

import { useEffect, useMemo, useRef, useState } from "./vendor/vendor.js";
import { newestWins, post } from "./api.js";

const SAME_GESTURE_MS = 900;

export const UNITS = { nats: "nats", initial: "× first" };

/** Steps of a value, by unit: what an arrow key moves a knot by, with Shift, and with PageUp. */
export const PACES = { nats: { arrow: 0.005, fine: 0.001, page: 0.025 }, initial: { arrow: 0.01, fine: 0.002, page: 0.05 } };

export const hasEdges = (curve) => Boolean(curve.lower);

/** The lines that have knots: the target, or both edges. */
export const linesOf = (curve) =>
  hasEdges(curve)
    ? [["upper", "Upper edge", curve.upper], ["lower", "Lower edge", curve.lower]]
    : [["knots", "Knot", curve.knots ?? []]];

/** The curve as the server takes it. */
export function spoken(curve) {
  const { kind, unit, width, text, knots, lower, upper } = curve;
  if (hasEdges(curve)) return { lower, upper, kind, unit };
  return text ? { text, unit, width } : { knots, kind, unit, width };
}

/** Knots with another one in place of, before, or without the one at `index`. */
export const replaced = (knots, index, knot) => knots.map((each, i) => (i === index ? knot : each));
export const without = (knots, index) => knots.filter((_, i) => i !== index);

export const tidy = (value) => Number(value.toFixed(4));

/** A whole step as a fraction of the run, of as few digits as tell it from the next one. */
export const fractionOf = (step, steps) => Number((step / steps).toFixed(steps > 1000 ? 6 : 4));

/** A knot at a whole step between its neighbours, with a value that is not negative. */
export function allowed(knots, index, [at, value], steps, earliest = 0) {
  const one = 1 / steps;
  const from = index === 0 ? 0 : Math.max(earliest, knots[index - 1][0]) + one;
  const to = index === 0 ? 0 : index === knots.length - 1 ? 1 : knots[index + 1][0] - one;
  const step = Math.round(Math.min(Math.max(at, from), Math.max(from, to)) * steps);
  return [fractionOf(step, steps), tidy(Math.max(0, value))];
}

/** Where another knot fits best: the middle of the widest gap, or of the one after `index`. */
export function gapAfter(knots, steps, index = null, earliest = 0) {
  const gaps = knots.slice(0, -1).map((knot, i) => ({ index: i + 1, width: knots[i + 1][0] - knot[0], at: (knot[0] + knots[i + 1][0]) / 2 }));
  const open = gaps.filter((gap) => gap.width * steps >= 2 && gap.at > earliest);
  const after = open.find((gap) => gap.index === index + 1);
  return (index !== null && after) || open.sort((a, b) => b.width - a.width)[0] || null;
}

/** The value of a line that the server has worked out, at a fraction of the run. */
export function valueAt(answer, line, at, steps) {
  const values = answer[line === "knots" ? "target" : line];
  const step = at * steps;
  const index = answer.step.findIndex((each) => each >= step);
  return values[index === -1 ? values.length - 1 : index];
}

/** The curve in the other unit; `nats` is what one multiple of the first step's entropy is. */
export function inUnit(curve, unit, nats) {
  const factor = unit === "nats" ? nats : 1 / nats;
  const scaled = (knots) => knots && knots.map(([at, value]) => [at, tidy(value * factor)]);
  return {
    ...curve, unit, text: null,
    knots: scaled(curve.knots), lower: scaled(curve.lower), upper: scaled(curve.upper), width: tidy(curve.width * factor),
  };
}

/** What can be undone. Changes with the same tag in quick succession count as one. */
export function useHistory(initial) {
  const [history, setHistory] = useState(() => ({ past: [], now: typeof initial === "function" ? initial() : initial, future: [] }));
  const gesture = useRef({ tag: null, time: 0 });
  const change = (next, tag = null) => {
    const time = performance.now();
    const goesOn = tag !== null && gesture.current.tag === tag && time - gesture.current.time < SAME_GESTURE_MS;
    gesture.current = { tag, time };
    setHistory(({ past, now }) => {
      const value = typeof next === "function" ? next(now) : next;
      return { past: goesOn ? past : [...past, now], now: value, future: [] };
    });
  };
  const undo = () => {
    gesture.current.tag = null;
    setHistory(({ past, now, future }) =>
      past.length ? { past: past.slice(0, -1), now: past.at(-1), future: [now, ...future] } : { past, now, future });
  };
  const redo = () =>
    setHistory(({ past, now, future }) =>
      future.length ? { past: [...past, now], now: future[0], future: future.slice(1) } : { past, now, future });
  return { now: history.now, change, undo, redo, canUndo: history.past.length > 0, canRedo: history.future.length > 0 };
}

/** What the server makes of a curve: {answer, problem}; the last good answer stays while there is a problem. */
export function useDrawn(curve, context) {
  const [drawn, setDrawn] = useState({ answer: null, problem: null });
  const ask = useMemo(
    () => newestWins(
      (body) => post("curve", body),
      (answer) => setDrawn({ answer, problem: null }),
      (error) => setDrawn(({ answer }) => ({ answer, problem: error.message })),
    ),
    [],
  );
  const body = curve && JSON.stringify({ ...spoken(curve), ...context });
  useEffect(() => {
    if (body) ask(JSON.parse(body));
  }, [body]);
  return drawn;
}
