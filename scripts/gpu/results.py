"""What Terastal's documents say of a GPU: read with the standard library alone, for check.py."""
import json
import math
from collections import defaultdict, deque


def body(path):
    """The body of a document that Terastal wrote: a profile, a log."""
    with open(path) as f:
        return json.load(f)["body"]


def median(values):
    values = sorted(values)
    return values[len(values) // 2] if values else None


def middle(values):
    """The mean of the middle one or two of a few repeats."""
    values = sorted(values)
    n = len(values)
    return (values[(n - 1) // 2] + values[n // 2]) / 2 if values else None


def quantile(values, q):
    values = sorted(values)
    return values[max(0, math.ceil(q * len(values)) - 1)] if values else None


def chains(profile):
    """By model and accelerator: microseconds of the chain, the whole model and the model as one graph."""
    found = {}
    for c in profile.get("chains", []):
        key = profile["models"][c["model"]]["name"], profile["accelerators"][c["accelerator"]]["name"]
        found[key] = {
            "layers": len(profile["models"][c["model"]]["layers"]),
            "captured": c.get("captured", 0),
            "chain_us": c["chained_ns"] / 1e3,
            "whole_us": c["whole_ns"] / 1e3 if c.get("whole_ns") else None,
            "plain_us": c["plain_ns"] / 1e3 if c.get("plain_ns") else None,
            "graph_us": c["graph_ns"] / 1e3 if c.get("graph_ns") else None,
        }
    return found


def devices(profile):
    """What a profile says of devices, in readable units."""
    found = []
    for d in profile.get("devices", []):
        found.append({
            "name": d.get("name", ""),
            "streams": len(d.get("accelerators", [])),
            "lead_us": d.get("lead_ns", 0) / 1e3,
            "contention": d.get("contention", []),
            "waking": [(w["idle_ns"] / 1e6, w["extra_ns"] / 1e3) for w in d.get("waking", [])],
            "memory_mb": d.get("memory_bytes", 0) / 1e6,
            "idle_w": d.get("idle_w"),
            "warm_w": d.get("warm_w"),
        })
    return found


def policies(result):
    """The policies of a result, by name."""
    return {p["policy"]: p for p in result.get("policies", [])}


def devices_in(policy):
    """A line for each device of a policy's run: its memory, and what could not be captured."""
    lines = []
    for d in policy.get("devices", []):
        line = f"{d['name']}: {d.get('needed_bytes', 0) / 1e6:.0f} MB of {d.get('total_bytes', 0) / 1e6:.0f} needed"
        why = {u["why"] for u in d.get("uncaptured", [])}
        lines.append(line + (f"; {len(d['uncaptured'])} layers not captured: {min(why)[:150]}" if why else ""))
    return lines


def verified(result):
    """How many sampled outputs of a result are right, and how many wrong."""
    right = wrong = 0
    for p in result.get("policies", []):
        right += p.get("outputs_verified", 0)
        wrong += p.get("outputs_wrong", 0) + p.get("outputs_not_finite", 0)
    return right, wrong


def per_second(result):
    """Completed requests per second by policy."""
    return {name: (p["met"] + p["late"]) / (p["elapsed_ns"] / 1e9) for name, p in policies(result).items()}


class Log:
    """The layer runs of an event log, by accelerator, in the order in which they ended."""

    def __init__(self, path):
        log = body(path)
        header = log["header"]
        self.seconds = header["duration_ns"] / 1e9
        system = header["system"]
        self.accelerators = system["accelerators"]
        self.runs = defaultdict(list)  # accelerator's name: (dispatched, began, ended, predicted) in ns
        self.ended = {}  # by model: requests that missed, and all
        waiting = defaultdict(deque)
        for r in log["records"]:
            k, kind = r.get("acc", 0), r["kind"]
            if kind == "end":
                missed, n = self.ended.get(r.get("model", 0), (0, 0))
                self.ended[r.get("model", 0)] = missed + (r["outcome"] != "met"), n + 1
            if kind == "dispatch":
                waiting[k].append(r)
            elif kind in ("complete", "requeue") and waiting[k]:
                d = waiting[k].popleft()
                if kind != "complete" or (d.get("request"), d.get("layer")) != (r.get("request"), r.get("layer")):
                    continue
                layer = system["models"][d.get("model", 0)]["layers"][d.get("layer", 0)]
                predicted = layer["implementations"][d.get("impl", 0)]["latency_ns"][k]
                self.runs[self.accelerators[k]].append((d.get("at", 0), r.get("start", 0), r["at"], predicted))
            elif kind == "end" and r.get("outcome") == "failed":
                waiting[k].clear()

    def stalls(self, names):
        """The share of the run that layers took beyond three times their prediction and a millisecond: of the worst
        accelerator; how many such runs; and the longest, in ms."""
        worst, count, longest = 0.0, 0, 0.0
        for name in names:
            lost = 0
            for _, began, ended, predicted in self.runs[name]:
                over = ended - began - predicted
                if ended - began > 3 * predicted + 1_000_000:
                    lost += over
                    count += 1
                    longest = max(longest, over / 1e6)
            worst = max(worst, lost / 1e9 / self.seconds)
        return worst, count, longest

    def gaps(self, names):
        """Microseconds between the end of a layer and the start of the next where that one was dispatched when the
        first ended: an accelerator that had work."""
        gaps = []
        for name in names:
            runs = self.runs[name]
            for (_, _, ended, _), (dispatched, began, _, _) in zip(runs, runs[1:]):
                if dispatched == ended:
                    gaps.append((began - ended) / 1e3)
        return gaps

    def errors(self, names):
        """Measured over predicted layer times: the median, and that of the sums."""
        runs = [(e - b, p) for name in names for _, b, e, p in self.runs[name] if p > 0]
        if not runs:
            return 0.0, 0.0
        return median([took / p for took, p in runs]), sum(took for took, _ in runs) / sum(p for _, p in runs)

    def miss_rate(self):
        """The mean over models of the share of requests that did not meet their deadline."""
        return sum(missed / n for missed, n in self.ended.values()) / max(1, len(self.ended))
