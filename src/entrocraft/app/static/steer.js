// Bending the curve of a run: proposed, written, followed.

import { html, useEffect, useMemo, useState } from "./vendor/vendor.js";
import { put, runPath } from "./api.js";
import { fractionOf, linesOf, spoken, tidy, useDrawn, useHistory } from "./curve.js";
import { Problem } from "./ui.js";

const LEAST_FREE = 3;

/** The run's own curve in nats, with a knot at the present step and a few after it that can be moved. */
function proposalFor(info) {
  const { curve, steps, step } = info;
  const factor = info.unit === "nats" ? 1 : info.nats_per_unit;
  const now = Math.min(step / steps, 1 - 1 / steps);
  const target = (at) => curve.target[curve.step.findIndex((each) => each >= at * steps)] ?? curve.target.at(-1);
  const own = (info.knots ?? []).map(([at, value]) => [at, value * factor]);
  const coming = own.filter(([at]) => at > now + 1 / steps);
  const free = coming.length >= LEAST_FREE ? coming : [1, 2, 3].map((part) => now + ((1 - now) * part) / 3).map((at) => [at, target(at)]);
  const whole = ([at, value]) => [fractionOf(Math.round(at * steps), steps), tidy(value)];
  const apart = ([at], i, all) => i === 0 || at > all[i - 1][0]; // near the end, several may fall onto one step
  const started = [[0, target(0)], ...own.filter(([at]) => at > 0 && at < now - 1 / steps)];
  return {
    text: null, family: "drawn", lower: null, upper: null,
    knots: [...(now > 1 / steps ? started : []), [now > 1 / steps ? now : 0, target(now)], ...free].map(whole).filter(apart),
    kind: coming.length >= LEAST_FREE && info.kind ? info.kind : "monotone",
    unit: "nats",
    width: tidy((info.width ?? 0) * factor || curve.upper[0] - curve.lower[0]),
  };
}

/** Everything about steering a run: whether a curve is being drawn, what became of the last one. */
export function useSteering(name, info, told) {
  const [drawing, setDrawing] = useState(null);
  const [written, setWritten] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    setDrawing(null);
    setWritten(null);
    setProblem(null);
  }, [name]);
  useEffect(() => {
    if (!told) return;
    if (told.accepted) setWritten({ followed: told.step });
    else setProblem(`The run refused the curve at step ${told.step}: ${told.message}`);
  }, [told]);
  return {
    drawing, written, problem,
    begin: () => {
      setProblem(null);
      setDrawing(proposalFor(info));
    },
    discard: () => setDrawing(null),
    apply: async (curve) => {
      try {
        await put(runPath(name, "/curve"), { ...spoken(curve), steps: info.steps });
        setWritten({ at: info.step });
        setDrawing(null);
        setProblem(null);
      } catch (error) {
        setProblem(error.message);
      }
    },
  };
}

/** The proposal while it is drawn: its history, and what the server makes of it as a table for the chart. */
export function useProposal(first, info) {
  const history = useHistory(first);
  const [selected, select] = useState(["knots", first.knots.findIndex(([at]) => at > info.step / info.steps)]);
  const { answer, problem } = useDrawn(history.now, { steps: info.steps, points: 300, recipe: info.recipe });
  const table = useMemo(() => {
    if (!answer) return null;
    const coming = (values) => values.map((value, i) => (answer.step[i] < info.step ? null : value));
    return {
      x: answer.step,
      lines: [
        { id: "new-upper", color: "proposal", width: 0, values: coming(answer.upper), fillTo: "new-lower", fill: "proposal-fill" },
        { id: "new-lower", color: "proposal", width: 0, values: coming(answer.lower) },
        { id: "new", label: "your new curve", color: "proposal", width: 2.4, dash: [7, 5], values: coming(answer.target) },
      ],
    };
  }, [answer, info.step]);
  return { history, selected, select, answer, problem, table, lines: linesOf(history.now) };
}

/** What may be done with the proposal. */
export const ProposalBar = ({ info, proposal, onApply, onDiscard }) => html`
  <div class="bar">
    <span><b>New curve from step ${Math.min(info.step + 1, info.steps)}</b> <span class="muted">nothing is sent yet</span></span>
    <span class="row">
      <button type="button" class="button quiet" onClick=${onDiscard}>Discard</button>
      <button type="button" class="button strong" disabled=${Boolean(proposal.problem)} onClick=${() => onApply(proposal.history.now)}>Apply</button>
    </span>
  </div>
  ${proposal.problem && html`<${Problem}>${proposal.problem}<//>`}`;

/** What became of the curve that was sent last. */
export function SteeringState({ steering, info }) {
  const { written, problem } = steering;
  const waits = info.state === "running" ? "the run reads it before its next decision" : "the run reads it when it goes on";
  return html`
    <div role="status" class="steering-state">
      ${written?.followed && html`
        <p class="note proposal"><b>Followed since step ${written.followed}.</b> Entropy answers over the steps that come, not at once.</p>`}
      ${written && !written.followed && html`<p class="note proposal"><b>Written at step ${written.at}</b>; ${waits}.</p>`}
    </div>
    ${problem && html`<${Problem}>${problem}<//>`}`;
}
