// All that the page uses of its libraries; everything else stays out of the bundle.
import { h, render } from "preact";
import htm from "htm";

export { render };
export { Fragment, createContext } from "preact";
export { useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { default as uPlot } from "uplot";
export const html = htm.bind(h);

import "uplot/dist/uPlot.min.css";
