// A run as the page knows it: what the server told once, and what its stream has told since.

import { useEffect, useMemo, useRef, useState } from "./vendor/vendor.js";
import { get, newestWins, runPath } from "./api.js";
import { listen, watch } from "./stream.js";

const MOST_STEPS = 4000; // then the server's summary is smaller and says as much
const NOTHING = { info: null, series: null, newest: null, steering: null, lastLines: null, problem: null };

/** One table of steps from two; where both know a step, `news` counts. */
function merged(known, news) {
  if (!known || !news?.step.length) return known ?? news;
  if (!news.step.length) return known;
  const [first, last] = [news.step[0], news.step.at(-1)];
  const before = known.step.findIndex((step) => step >= first);
  const after = known.step.findIndex((step) => step > last);
  const head = before === -1 ? known.step.length : before;
  const tail = after === -1 ? known.step.length : after;
  const spliced = (old, fresh) => [...old.slice(0, head), ...fresh, ...old.slice(tail)];
  const blank = news.step.map(() => null);
  const columns = {};
  for (const key of Object.keys(known.columns)) columns[key] = spliced(known.columns[key], news.columns[key] ?? blank);
  return { step: spliced(known.step, news.step), columns };
}

const withInfo = (run, changes) => ({ ...run, info: run.info && { ...run.info, ...changes } });

const STORIES = {
  steps: (run, news) => withInfo({ ...run, series: merged(run.series, news) }, { step: news.step.at(-1) }),
  event: (run, { step, kind, text }) => withInfo(run, { events: [...(run.info?.events ?? []), { step, kind, text }] }),
  rollouts: (run, { step, groups }) =>
    withInfo({ ...run, newest: { step, groups } }, { rollout_steps: [...new Set([...(run.info?.rollout_steps ?? []), step])] }),
  steering: (run, news) => ({ ...run, steering: news }),
  state: (run, { last_lines: lastLines, run: _, ...changes }) => withInfo({ ...run, lastLines }, changes),
  reset: ({ info }) => withInfo({ ...NOTHING, info }, { rollout_steps: [], events: [] }),
};

/** Whether an event changes more than it tells, so that the server is to be asked again. */
const saysTooLittle = (event, news, { info }) =>
  ["eval", "steering", "reset"].includes(event) ||
  (event === "state" && news.state !== info?.state) ||
  (event === "steps" && info?.knots && !info.curve); // in nats once the first step has measured what one multiple is

/** Follow a run: {info, series, newest, steering, lastLines, problem, reload}. */
export function useRun(name) {
  const [run, setRun] = useState(NOTHING);
  const [asked, setAsked] = useState(0);
  const reload = () => setAsked((times) => times + 1);
  const known = useRef(run);
  known.current = run;
  useEffect(() => {
    setRun(NOTHING);
    watch(name ? [name] : []);
    return listen((event, news) => {
      if (news.run !== name) return;
      if (STORIES[event]) setRun((now) => STORIES[event](now, news));
      if (saysTooLittle(event, news, known.current)) reload();
    });
  }, [name]);
  const tooLong = (run.series?.step.length ?? 0) > MOST_STEPS;
  useEffect(() => {
    if (!name) return undefined;
    let wanted = true;
    Promise.all([get(runPath(name)), get(runPath(name, "/series?points=1500"))])
      .then(([info, series]) => wanted && setRun((now) => ({
        ...now, info: { ...info, told: Date.now() }, series: tooLong ? series : merged(series, now.series), problem: null,
      })))
      .catch((error) => wanted && setRun((now) => ({ ...now, problem: error.message })));
    return () => {
      wanted = false;
    };
  }, [name, asked, tooLong]);
  return { ...run, reload };
}

/** The recorded rollouts of a step: {step, problem}. The last one told stays until the next is there. */
export function useStep(name, number, page = 0) {
  const [told, setTold] = useState({ step: null, problem: null, of: null });
  const ask = useMemo(
    () => newestWins(
      (asked) => get(runPath(asked.name, `/steps/${asked.number}?page=${asked.page}`)),
      (step, asked) => setTold({ step, problem: null, of: asked.name }),
      (error, asked) => setTold({ step: null, problem: error.message, of: asked.name }),
    ),
    [],
  );
  useEffect(() => {
    if (name && number) ask({ name, number, page });
  }, [name, number, page]);
  return told.of === name ? told : { step: null, problem: null };
}
