// Every rollout of a step: its advantage against the change of entropy that learning from it is predicted to bring.

import { html, useLayoutEffect, useRef, useState } from "./vendor/vendor.js";
import { rangeOf } from "./chart.js";
import { plus } from "./format.js";
import { useNarrow } from "./store.js";

const MARGIN = { left: 62, right: 8, top: 8, bottom: 40 };
const SPREAD = 14; // pixels over which rollouts of equal advantage are spread
const REACH = 22; // pixels around a dot in which a click means it

/** Round numbers within a range. */
function ticks([low, high], about = 8) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const apart = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.ceil(low / apart);
  return Array.from({ length: Math.floor(high / apart) - first + 1 }, (_, i) => (first + i) * apart);
}

/** Spread rollouts of equal advantage a little, always in the same way. */
const spread = (index) => ((index * 0.618034) % 1) - 0.5;

const Corner = ({ x, y, end, name, text }) => html`
  <text class="corner" x=${x} y=${y} text-anchor=${end ? "end" : "start"}>${name}<tspan class="faint" x=${x} dy="16">${text}</tspan></text>`;

function Dot({ x, y, advantage, verdict, chosen }) {
  const side = advantage > 0 ? "good" : advantage < 0 ? "bad" : "even";
  const look = `dot-mark ${side} ${verdict === "left out" ? "ring" : verdict === "in part" ? "half" : ""}`;
  return html`${chosen && html`<circle class="chosen-ring" cx=${x} cy=${y} r="10" />`}<circle class=${look} cx=${x} cy=${y} r="4.2" />`;
}

/** `rollouts`: [{index, reward, advantage, change, verdict}], change to first order, per unit of step. */
export function Scatter({ rollouts, chosen, onChoose, label }) {
  const frame = useRef(null);
  const narrow = useNarrow();
  const [width, setWidth] = useState(0);
  const height = narrow ? 330 : 396;
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => setWidth(frame.current.clientWidth));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);

  const xs = rangeOf([0, ...rollouts.map(({ advantage }) => advantage)], { air: 0.09, least: 0.5 });
  const ys = rangeOf([0, ...rollouts.map(({ change }) => change)], { air: 0.2, least: 0.02 });
  const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
  const x = (value) => MARGIN.left + ((value - xs[0]) / (xs[1] - xs[0])) * (right - MARGIN.left);
  const y = (value) => MARGIN.top + ((ys[1] - value) / (ys[1] - ys[0])) * (bottom - MARGIN.top);
  const dots = rollouts.map((rollout) => ({
    ...rollout,
    x: x(rollout.advantage) + SPREAD * spread(rollout.index),
    y: y(rollout.change ?? 0),
  }));
  const choose = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const away = (dot) => Math.hypot(dot.x - (event.clientX - box.left), dot.y - (event.clientY - box.top));
    const nearest = dots.toSorted((a, b) => away(a) - away(b))[0];
    if (nearest && away(nearest) < REACH) onChoose(nearest.index);
  };
  const [x0, y0] = [x(0), y(0)];
  return html`
    <div class="scatter" ref=${frame} style=${{ height: `${height}px` }}>${width > 0 && html`
      <svg width=${width} height=${height} role="img" aria-label=${label} onClick=${choose}>
        <rect class="raises" x=${MARGIN.left} y=${MARGIN.top} width=${right - MARGIN.left} height=${Math.max(0, y0 - MARGIN.top)} />
        <rect class="lowers" x=${MARGIN.left} y=${y0} width=${right - MARGIN.left} height=${Math.max(0, bottom - y0)} />
        ${ticks(ys).map((value) => html`
          <line class="grid-line" x1=${MARGIN.left} x2=${right} y1=${y(value)} y2=${y(value)} />
          <text x=${MARGIN.left - 8} y=${y(value) + 4} text-anchor="end">${plus(value)}</text>`)}
        ${ticks(xs, narrow ? 4 : 7).map((value) => html`
          <text x=${x(value)} y=${bottom + 18} text-anchor="middle">${plus(value)}</text>`)}
        <line class="axis-line" x1=${MARGIN.left} x2=${right} y1=${y0} y2=${y0} />
        <line class="axis-line" x1=${x0} x2=${x0} y1=${MARGIN.top} y2=${bottom} />
        <text x=${(MARGIN.left + right) / 2} y=${height - 4} text-anchor="middle">advantage</text>
        <text transform=${`translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)`} text-anchor="middle">predicted change of entropy</text>
        ${dots.map((dot) => html`<${Dot} key=${dot.index} ...${dot} chosen=${dot.index === chosen} />`)}
        <${Corner} x=${MARGIN.left + 10} y=${MARGIN.top + 18} name="worse · raises" text=${narrow ? "" : "unlearning what it is sure of"} />
        <${Corner} end x=${right - 10} y=${MARGIN.top + 18} name="better · raises" text=${narrow ? "" : "learning a rare find"} />
        <${Corner} x=${MARGIN.left + 10} y=${bottom - 26} name="worse · lowers" text=${narrow ? "" : "unlearning a rare token"} />
        <${Corner} end x=${right - 10} y=${bottom - 26} name="better · lowers" text=${narrow ? "" : "sharpening what it knows"} />
      </svg>`}</div>`;
}
