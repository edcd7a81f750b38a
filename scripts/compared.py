#!/usr/bin/env python3
"""Tables of docs/evaluation/accuracy.md from comparisons on hardware: result.json of `terastal compare` at each load.

  compared.py --into docs/evaluation/accuracy.md --plan plan.json --curves curves.json load-0.9.json load-1.1.json

Rates of all loads are those of one plan, each model's the same share. Without --into the tables are printed. Needs only
Python's standard library.
"""
import argparse
import json
import math
import sys
import textwrap
from statistics import median

sys.dont_write_bytecode = True  # next to the scripts
from evaluation import curve_table, documents, lesser, met, policies, rate, table, write

ORIGINALS = ["fcfs", "edf", "llf", "heft", "dream", "terastal-novariants", "pedf-novariants", "rollout-novariants"]
SUSTAINED = 0.05


class Compared:
    """What `terastal compare` found at one load."""

    def __init__(self, path):
        with open(path) as f:
            d = json.load(f)
        if not d.get("comparison"):
            sys.exit(f"{path}: not the result of `terastal compare`")
        self.load, self.valid, self.reasons = d["traffic"]["load"], d["valid"], d.get("invalid_reasons", [])
        self.rate = sum(m["rate_per_s"] for m in d["models"]) / self.load  # at load 1, per second
        self.seconds, self.host, self.aa = d["traffic"]["duration_s"], d["hardware"], d["comparison"].get("a_a")
        self.runs = {}
        for repeat in [d["policies"]] + [r["policies"] for r in d.get("later_repeats", [])]:
            for p in repeat:
                self.runs.setdefault(p["policy"], []).append(p)
        self.repeats = d["comparison"]["repeats"]
        self.labelled = d.get("labelled", [])

    def miss(self, policy):
        return median(p["mean_miss_rate"] for p in self.runs[policy])

    def least(self, policy):
        """The least accuracy of a model in a repeat; unknown where one was not measured."""
        out = 1.0
        for p in self.runs[policy]:
            for m in p["models"]:
                out = lesser(out, m.get("delivered_accuracy", m.get("normalized_accuracy", math.nan)))
        return out

    def on_labels(self, policy):
        """The least of models by its labelled requests: share, low, high; None where nothing was scored."""
        some = [x for x in self.labelled if x["policy"] == policy]
        return min(((x["normalized"], x["low"], x["high"]) for x in some), default=None)

    def share(self, policy):
        """Share of layers that variants ran."""
        models = [m for p in self.runs[policy] for m in p["models"]]
        return sum(m["variants_used"] for m in models) / max(1, sum(m["layers_run"] for m in models))

    def outputs(self, policy):
        runs = self.runs[policy]
        wrong = sum(p.get("outputs_wrong", 0) + p.get("outputs_not_finite", 0) for p in runs)
        verified = sum(p.get("outputs_verified", 0) for p in runs)
        return verified, wrong


def loads(all):
    out = ""
    for c in all:
        rows = []
        for p in policies([c.runs]):
            verified, wrong = c.outputs(p)
            labels = c.on_labels(p)
            rows.append([p, percent(c.miss(p)), rate(c.least(p)),
                         "-" if not labels else f"{labels[0]:.4f} ({labels[1]:.4f} to {labels[2]:.4f})",
                         percent(c.share(p)), f"{verified}" + (f", {wrong} wrong" if wrong else "")])
        out += (f"{c.load:g} of the originals' capacity, {c.rate * c.load:.0f} requests/s "
                f"({c.repeats} repeats of {c.seconds:g} s):\n\n")
        out += table(["policy", "mean miss rate", "least accuracy of a model", "the same on labelled requests",
                      "layers run by variants", "outputs verified"], rows)
        text = ""
        if c.aa:
            x = c.aa["mean_miss_rate"]
            text = (f"{c.aa['policy']} against itself: {100 * x.get('difference', 0):+.2f} points "
                    f"({100 * x.get('difference_low', 0):+.2f} to {100 * x.get('difference_high', 0):+.2f}), "
                    f"p {x.get('p', 1):.2g}.")
        text += f" {'VALID' if c.valid else 'INVALID: ' + '; '.join(c.reasons)}."
        out += f"\n{textwrap.fill(text.strip(), 120)}\n\n"
    return out.rstrip("\n") + "\n"


def percent(x):
    return f"{100 * x:.2f} %"


def sustains(all, policy):
    """The load at which the median miss rate crosses 5 %, by straight lines between the loads; and whether it does."""
    before = None
    for c in all:
        if policy not in c.runs:
            continue
        load, miss = c.load, c.miss(policy)
        if miss > SUSTAINED:
            if before is None:
                return None, True
            return before[0] + (load - before[0]) * (SUSTAINED - before[1]) / (miss - before[1]), True
        before = load, miss
    return (before[0] if before else None), False


def sustained(all):
    rows = []
    for p in policies([c.runs for c in all]):
        load, crosses = sustains(all, p)
        more = "" if crosses else " or more"
        rows.append([p, "less than all of these", ""] if load is None else
                    [p, f"{load:.2f}{more}", f"{load * all[0].rate:.0f}{more}"])
    return table(["policy", "load", "requests/s"], rows)


def goals(all, plan):
    rows = []
    by_load = {c.load: c for c in all}
    for load, most in ((0.9, 0.001), (1.1, 0.005), (1.3, 0.03)):
        for p in ("pedf", "rollout"):
            c = by_load.get(load)
            if c and p in c.runs:
                rows.append([f"{p} misses at most {100 * most:g} % at {load:g}, every model's accuracy at least 0.99",
                             f"{percent(c.miss(p))} at {rate(c.least(p))}",
                             met(c.miss(p) <= most and c.least(p) >= 0.99)])
    for p in ("pedf", "rollout"):
        c = by_load.get(0.4)
        if c and p in c.runs:
            rows.append([f"{p} runs originals everywhere at 0.4", f"{100 * c.share(p):.2f} % of layers by variants",
                         met(c.share(p) == 0)])
    floors = {x.get("floor", 0): x["scale"] for x in plan.get("capacities", [])}
    ratio = floors[0.99] / floors[1] if 0.99 in floors and 1 in floors else None
    if ratio:
        rows.append(["the bound with variants at accuracy 0.99 is at least 1.5 times that of the originals",
                     f"{ratio:.2f}", met(ratio >= 1.5)])
    best = max(((sustains(all, p)[0] or 0, p) for p in ORIGINALS if any(p in c.runs for c in all)), default=None)
    for p in ("pedf", "rollout"):
        if ratio and best and any(p in c.runs for c in all):
            want, (load, crosses) = 0.9 * ratio * best[0], sustains(all, p)
            load = load or 0
            rows.append([f"{p} sustains 0.9 of that ratio times the load of the best policy on originals at 5 % missed "
                         f"({best[1]} {best[0]:.2f}, so {want:.2f})", f"{load:.2f}" + ("" if crosses else " or more"),
                         met(load >= want > 0)])
    for p in ("pedf", "rollout"):
        outputs = [c.outputs(p) for c in all if p in c.runs]
        if outputs:
            verified, wrong = (sum(x) for x in zip(*outputs))
            rows.append([f"{p}: sampled outputs are those of the whole models with these variants",
                         f"{verified} verified, {wrong} wrong", met(verified > 0 and wrong == 0)])
    return table(["goal", "measured", "met"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--into", metavar="DOCUMENT", help="the document to put the tables into")
    parser.add_argument("--plan", metavar="FILE", help="the plan of the comparisons, for the goals about its capacity")
    parser.add_argument("--curves", metavar="FILE", action="append", default=[],
                        help="a document of `terastal sweep curves`")
    args = parser.parse_args()
    all = sorted((Compared(path) for path in args.files), key=lambda c: c.load)
    plan = documents([args.plan])[0] if args.plan else {}
    write({"loads": loads(all), "sustained": sustained(all), "measured-goals": goals(all, plan),
           "measured-curves": curve_table(documents(args.curves))}, args.into)


if __name__ == "__main__":
    main()
