"""Judge many generated graphs, resume where a run stopped, and say which kinds of faults there are.

    python tests/differential/run_many.py --seeds 0:20000 --jobs 2 --out seeds.jsonl [--checkout PATH] [--ways suite]

One JSON line a seed goes to ``--out``: {"seed", "shrinks", "ops", "grown", "twists", "faults": [[way, kind, detail]]};
a seed that is there already is not run again. Where onnxruntime ends the process on the original alone, that is no
fault: the line holds {"crashes": true}. ``--checkout``: the folder of which onnx_merge and passes are judged,
this one by default. ``--show SEED``: print that graph as ONNX text, made as small as its first fault allows.
"""

import argparse
import contextlib
import gc
import json
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
FRESH = 250
"""Graphs of one process: it keeps what it has compiled and loaded, 5.7 GB after 500."""
MEMORY = 8 * 2**30
"""Bytes of addresses that a process may take."""
LONGEST = 180
"""Seconds of computing that one graph may take, however busy the machine is."""
EXAMPLES = 12
"""Seeds printed of each kind."""


def prepare(checkout):
    """Let the modules be those of ``checkout``, one thread do the work, and no collection look at what stays."""
    support = HERE.parent / "passes" / "support"
    rooms = (support / room for room in ("generator", "networks", "rules"))
    sys.path[:0] = map(str, [checkout, HERE / "support", support, *rooms])
    os.environ |= dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
    warnings.simplefilter("ignore")


def worker(checkout, pipe):
    """Judge what comes through the pipe until nothing does."""
    prepare(checkout)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from diff_examine import examine

    examine(1)  # which imports the rest
    gc.collect()
    gc.freeze()
    while (task := pipe.recv()) is not None:
        pipe.send(one(task))


def judged(tasks, checkout, jobs):
    """The lines of ``tasks``, as they come. A process that ends is a fault of what it had in hand, unless the original
    alone ends one too."""
    context, tasks = multiprocessing.get_context("spawn"), iter(tasks)
    busy = {}

    def give(process, pipe, done):
        """Another task, by another process after many."""
        task = next(tasks, None)
        if process is not None and (task is None or done == FRESH):
            pipe.send(None)
        if task is None:
            return
        if process is None or done == FRESH:
            pipe, other = context.Pipe()
            process, done = context.Process(target=worker, args=(checkout, other), daemon=True), 0
            process.start()
            other.close()
        pipe.send(task)
        busy[pipe] = process, task, done + 1

    for _ in range(jobs):
        give(None, None, 0)
    while busy:
        for pipe in multiprocessing.connection.wait(busy):
            process, task, done = busy.pop(pipe)
            try:
                yield pipe.recv()
            except EOFError:
                process.join()
                alone = context.Process(target=run_original, args=(checkout, task[0]), daemon=True)
                alone.start()
                alone.join()
                line = failed(task[0], "the process ended", f"exit code {process.exitcode}")
                yield line | {"faults": [], "crashes": True} if alone.exitcode < 0 else line
                process = None
            give(process, pipe, done)


def run_original(checkout, seed):
    """Run the graph of a seed at each of its sizes and usual ones, at each level of onnxruntime's optimisations."""
    prepare(checkout)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import onnxruntime
    from diff_generate import generate
    from diff_ort import FAILURES, feeds, silent
    from diff_refusals import usual

    case = generate(seed)
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_EXTENDED, levels.ORT_ENABLE_ALL):
        options = silent()
        options.graph_optimization_level = level
        for inputs in [*(feeds(case.model, sizes) for sizes in case.sizes), *usual(case.model)]:
            with contextlib.suppress(*FAILURES):
                content = case.model.SerializeToString()
                onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def failed(seed, kind, detail):
    """The line of a seed of which nothing else is known."""
    return {"seed": seed, "shrinks": False, "ops": [], "grown": [], "twists": [], "faults": [["judge", kind, detail]]}


def one(task):
    """The line of a seed."""
    seed, ways = task
    from diff_examine import examine
    from diff_run import ways_of

    def late(*_):
        raise TimeoutError(f"took more than {LONGEST} s")

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        found = examine(seed, ways or ways_of(seed))
    except Exception as error:  # of the judge itself too: a fault to be looked at
        return failed(seed, type(error).__name__, str(error)[:300])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "seed": seed,
        "shrinks": found.shrinks,
        "ops": sorted(found.ops),
        "grown": found.case.grown,
        "twists": found.case.twists,
        "faults": [[f.way, f.kind, f.detail] for f in found.faults],
    }


def summary(lines):
    """Text: shares, faults by kind with seeds, ops that stand too rarely where channels go."""
    from diff_known import known

    from passes.axes.registry import rules

    count = max(len(lines), 1)
    kinds, ops = defaultdict(list), Counter()
    for line in lines:
        ops.update(line["ops"])
        for way, kind, _ in line["faults"]:
            kinds[way, kind].append(line["seed"])
    text = [f"{len(lines)} graphs, {sum(x['shrinks'] for x in lines) / count:.0%} shrink"]
    text += [f"{sum(bool(x['faults']) for x in lines)} with faults"]
    crashes = [x["seed"] for x in lines if x.get("crashes")]
    text += [f"{len(crashes)} on which onnxruntime ends the process: {' '.join(map(str, crashes)) or 'none'}"]
    for (way, kind), seeds in sorted(kinds.items(), key=lambda item: -len(item[1])):
        text.append(f"  {len(seeds):5} {way}: {kind}: {' '.join(map(str, sorted(seeds)[:EXAMPLES]))}")
    good = known() & {x["seed"] for x in lines if not x["faults"]}
    text.append(f"known to be faulty, and good here: {' '.join(map(str, sorted(good))) or 'none'}")
    rare = sorted((ops[op], op) for domain, op in rules() if domain == "")
    text.append("on axes that shrink, rarest first: " + ", ".join(f"{op} {n}" for n, op in rare))
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:1000", help="A:B, B not included")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("differential.jsonl"))
    parser.add_argument("--checkout", type=Path, default=HERE.parents[1])
    parser.add_argument(
        "--ways", default="lossless,keep-one,merge,default", help="suite: for each seed those of the test suite"
    )
    parser.add_argument("--show", type=int, help="print one graph instead")
    given = parser.parse_args()
    prepare(given.checkout.resolve())
    ways = tuple(given.ways.split(",")) if given.ways != "suite" else None
    if given.show is not None:
        from diff_run import ways_of
        from diff_smaller import story

        print(story(given.show, ways or ways_of(given.show)))
        return
    first, last = map(int, given.seeds.split(":"))
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {line["seed"] for line in lines}
    tasks = [(seed, ways) for seed in range(first, last) if seed not in done]
    start = time.monotonic()
    with given.out.open("a") as file:
        for k, line in enumerate(judged(tasks, given.checkout.resolve(), given.jobs), 1):
            lines.append(line)
            file.write(json.dumps(line) + "\n")
            file.flush()
            if k % 20 == 0 or k == len(tasks):
                bad = sum(bool(x["faults"]) for x in lines)
                left = (time.monotonic() - start) / k * (len(tasks) - k)
                print(f"\r{k}/{len(tasks)}, {bad} with faults, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(summary([line for line in lines if first <= line["seed"] < last]))


if __name__ == "__main__":
    main()
