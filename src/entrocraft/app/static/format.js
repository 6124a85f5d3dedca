// Numbers and untrusted text, as people read them.

const MINUS = "\u2212";
const typeset = (text) => text.replace("-", MINUS);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A number of so many decimals; a dash for what is none. */
export const fixed = (value, digits = 3) => (isNumber(value) ? typeset(value.toFixed(digits)) : "–");

export const signed = (value, digits = 3) =>
  isNumber(value) ? (value > 0 ? "+" : "") + fixed(value, digits) : "–";

export const percent = (share, digits = 0) => (isNumber(share) ? `${(100 * share).toFixed(digits)} %` : "–");

export const whole = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en-US") : "–");

/** Few enough digits for an axis. */
export const short = (value) => typeset(String(Number(value.toPrecision(4))));

/** A number of any size with its sign, in few digits. */
export const plus = (value) => (Math.abs(value) < 1e-12 ? "0" : (value > 0 ? "+" : "") + typeset(String(Number(value.toPrecision(3)))));

export function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  const total = Math.round(seconds);
  const hours = Math.floor(total / 3600);
  const two = (n) => String(n).padStart(2, "0");
  const minutes = Math.floor((total % 3600) / 60);
  return hours ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)}`;
}

export const mean = (values) => {
  const numbers = values.filter(isNumber);
  return numbers.length ? numbers.reduce((sum, value) => sum + value, 0) / numbers.length : null;
};

/** Values with the noise taken out, for the eye only: an exponential mean that starts without a bias. */
export function smooth(values, memory) {
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (!isNumber(value)) return null;
    sum = memory * sum + (1 - memory) * value;
    weight = memory * weight + (1 - memory);
    return sum / weight;
  });
}

// Characters that a reader cannot see, or that reorder what stands around them.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Text that a model wrote, with control and bidirectional characters shown as symbols. */
export const visible = (text) =>
  text.replace(HIDDEN, (character) => {
    const code = character.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code === 0x7f ? "\u2421" : `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
