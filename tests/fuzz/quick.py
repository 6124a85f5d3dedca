import sys, time, collections
from random import Random
from importlib import import_module
from fuzz.watch import judge, limit_memory
name, n = sys.argv[1], int(sys.argv[2]); start = int(sys.argv[3]) if len(sys.argv) > 3 else 0
T = import_module(f"fuzz.{name}").TARGET
c = collections.Counter(); seen = collections.Counter(); worst = 0
T = type(T)(T.name, T.draw, T.try_case, T.cpu_seconds, 5.0); limit_memory(); [judge(T, T.draw(Random(f'{name}-0-{i}'))) for i in range(start, start+8)]; t = time.time()
for i in range(start, start + n):
    case = T.draw(Random(f"{name}-{0}-{i}"))
    t0 = time.process_time(); j = judge(T, case); dt = time.process_time() - t0
    if dt > worst: worst = dt; print("slow", i, round(dt, 3), j.verdict, repr(case)[:150])
    c[j.verdict] += 1
    if j.is_fault:
        key = (j.verdict, j.why[:60] + j.why[-80:])
        seen[key] += 1
        if seen[key] <= 2: print(i, j.verdict, j.why[:500], "\n    ", repr(case)[:300])
print(c, round((time.time() - t) / n * 1000, 2), "ms/case")
