// uPlot as a component: lines over steps, what lies over and under them, and the same in words for screen readers.

import { html, uPlot, useLayoutEffect, useMemo, useRef, useState } from "./vendor/vendor.js";
import { fixed, short } from "./format.js";
import { useStore } from "./store.js";

const TOP = 10;
const RIGHT = 14;
const X_AXIS = 26;
const FONT = "12px Inter, ui-sans-serif, system-ui, sans-serif";
const ROWS_SPOKEN = 25;
const STEPS_APART = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5].map((power) => n * 10 ** power)).sort((a, b) => a - b);

/** A function that says which colour a CSS variable has now in an element, as a canvas takes it. */
const coloursIn = (element) => (variable) => {
  const probe = document.createElement("i");
  probe.style.color = `var(--${variable})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
};

/** A range that holds all these values with some air around them. */
export function rangeOf(values, { air = 0.1, least = 0.02, floor = -Infinity } = {}) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  const extent = Math.max(high - low, least);
  const middle = (low + high) / 2;
  const half = extent * (0.5 + air);
  return [Math.max(floor, middle - half), middle + half];
}

/** All values of some tables. */
export const valuesOf = (tables) => tables.flatMap((table) => table.lines.flatMap((line) => line.values));

/** Steps from 0 to `steps`, with air so that the first and last are not on the frame. */
export const stepRange = (steps) => [-0.018 * steps, 1.018 * steps];

function useWidth(element) {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measure = () => setWidth(element.current.clientWidth);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

const lineStyle = (colour) => ({ color, width = 2, dash, alpha = 1, points }) => ({
  stroke: width ? colour(color) : undefined,
  width,
  dash,
  alpha,
  points: { show: Boolean(points), size: 8, width: 2, fill: colour("card") },
});

/** Dots at the pointer, on the lines that have a name. */
const cursorPoints = (lines, colour) => ({
  size: (_, index) => (lines[index - 1].label ? 7 : 0),
  width: 0,
  fill: (_, index) => colour(lines[index - 1].color),
});

function bandsOf(lines, colour) {
  return lines.flatMap((line, index) => {
    if (!line.fillTo) return [];
    const other = lines.findIndex((each) => each.id === line.fillTo);
    return [{ series: [index + 1, other + 1], fill: colour(line.fill) }];
  });
}

function axes({ yAxis, small, format, ticks, colour }) {
  const ink = colour("ink-3");
  return [
    {
      stroke: ink, font: FONT, size: X_AXIS, gap: 5, grid: { show: false }, incrs: STEPS_APART,
      ticks: { stroke: colour("line-2"), size: 4, width: 1 },
      splits: ticks && (() => ticks.map((_, index) => index)),
      values: ticks && (() => ticks),
    },
    {
      stroke: ink, font: FONT, size: yAxis, gap: 7, space: small ? 22 : 40, ticks: { show: false },
      grid: { stroke: colour("grid"), width: 1 },
      values: (_, values) => values.map((value) => format(value)),
    },
  ];
}

/** The value that stands nearest to an index, as joined tables have holes. */
function near(values, index) {
  for (const offset of [0, -1, 1, -2, 2, -3, 3]) {
    const value = values[index + offset];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

const Readout = ({ data, lines, index, place, format, xName }) => {
  const at = data[0][index];
  const left = place.x(at);
  const shown = lines.map((line, i) => [line, near(data[i + 1], index)]).filter(([line, value]) => line.label && value !== null);
  if (!shown.length) return null;
  return html`
    <div class="readout ${left > place.width / 2 ? "left" : ""}" style=${{ left: `${left}px` }} aria-hidden="true">
      <b>${xName(at)}</b>
      ${shown.map(([line, value]) => html`<span class="key tone-${line.color}"><i class=${line.dash ? "dash" : "line"}></i>${line.label}</span>
        <span class="number">${format(value)}</span>`)}
    </div>`;
};

function SpokenTable({ data, lines, format, xName }) {
  const named = lines.map((line, i) => [line, data[i + 1]]).filter(([line]) => line.label);
  const every = Math.max(1, Math.ceil(data[0].length / ROWS_SPOKEN));
  const rows = [...data[0].keys()].filter((index) => index % every === 0);
  return html`
    <table class="unseen">
      <thead><tr><th scope="col">at</th>${named.map(([line]) => html`<th scope="col">${line.label}</th>`)}</tr></thead>
      <tbody>${rows.map((index) => html`<tr><th scope="row">${xName(data[0][index])}</th>
        ${named.map(([, values]) => html`<td>${values[index] == null ? "" : format(values[index])}</td>`)}</tr>`)}</tbody>
    </table>`;
}

/**
 * Lines over steps.
 *
 * `tables`: [{x, lines: [{id, label, values, color, width, dash, alpha, points, fillTo, fill}]}]; tables with other steps
 * are joined. `x` and `y` are the ranges shown. `over` and `under` are functions of `place`, which says where a step and
 * a value are in pixels and back, and return what lies over or under the lines.
 */
export function Chart({ label, tables, x, y, height, small, format = fixed, xName = (step) => `step ${short(step)}`, ticks, over, under }) {
  const frame = useRef(null);
  const canvas = useRef(null);
  const chart = useRef(null);
  const ranges = useRef(null);
  ranges.current = { x, y };
  const width = useWidth(frame);
  const dark = useStore((state) => state.look.dark);
  const [hovered, setHovered] = useState(null);

  const lines = tables.flatMap((table) => table.lines);
  const data = useMemo(() => {
    const columns = tables.map((table) => [table.x, ...table.lines.map((line) => line.values)]);
    return columns.length === 1 ? columns[0] : uPlot.join(columns);
  }, [tables]);
  const yAxis = small ? 44 : 50;
  const shape = JSON.stringify([lines.map(({ values, ...style }) => style), small, dark, ticks, width > 0]);

  useLayoutEffect(() => {
    if (!width) return undefined;
    const colour = coloursIn(frame.current);
    const plot = new uPlot(
      {
        width, height,
        padding: [TOP, RIGHT, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: cursorPoints(lines, colour), drag: { x: false, y: false } },
        scales: { x: { time: false, range: () => ranges.current.x }, y: { range: () => ranges.current.y } },
        axes: axes({ yAxis, small, format: small ? format : short, ticks, colour }),
        series: [{}, ...lines.map(lineStyle(colour))],
        bands: bandsOf(lines, colour),
        hooks: { setCursor: [(u) => setHovered(u.cursor.left >= 0 ? u.cursor.idx : null)] },
      },
      data,
      canvas.current,
    );
    chart.current = plot;
    return () => plot.destroy();
  }, [shape]);
  useLayoutEffect(() => chart.current?.setSize({ width, height }), [width, height]);
  useLayoutEffect(() => chart.current?.setData(data), [data, ...x, ...y]);

  const inner = { width: Math.max(0, width - yAxis - RIGHT), height: height - TOP - X_AXIS };
  const place = {
    ...inner,
    x: (step) => ((step - x[0]) / (x[1] - x[0])) * inner.width,
    y: (value) => ((y[1] - value) / (y[1] - y[0])) * inner.height,
    stepAt: (pixel) => x[0] + (pixel / inner.width) * (x[1] - x[0]),
    valueAt: (pixel) => y[1] - (pixel / inner.height) * (y[1] - y[0]),
  };
  const box = { left: `${yAxis}px`, top: `${TOP}px`, width: `${inner.width}px`, height: `${inner.height}px` };
  return html`
    <div class="chart" ref=${frame} style=${{ height: `${height}px` }}>
      ${width > 0 && under && html`<div class="layer under" style=${box}>${under(place)}</div>`}
      <div class="canvas" ref=${canvas} role="img" aria-label=${label}></div>
      ${width > 0 && html`<div class="layer over" style=${box}>
        ${over?.(place)}
        ${hovered !== null && html`<${Readout} ...${{ data, lines, place, format, xName, index: hovered }} />`}
      </div>`}
      <${SpokenTable} ...${{ data, lines, format, xName }} />
    </div>`;
}

/** The style of what stands at a place on a chart. */
export const standing = (left, top) => ({ left: `${left}px`, top: `${top}px` });

/** Shades the part of a run that is over, up to the line where it is now. */
export const past = (now) => (place) => html`<div class="past" style=${{ width: `${place.x(now)}px` }}></div>`;
