#!/usr/bin/env python3
"""Writes the embedded tables of package sched/scenario from the published ones.

  scenario-tables.py PAPER sched/scenario/data

PAPER is the folder with layer_latency.csv, xrbench_stock_models_latency.csv, variant_layers.csv and
variant_accuracy.csv. Models that no scenario uses (see sched/scenario/published.go) and variants that the published
evaluation did not use are left out. A table that contradicts itself is an error. Needs only Python's standard library.
"""
import csv
import pathlib
import re
import sys

KINDS = ["WS2048", "OS1024", "OS2048"]
LAYERS = """\
# Layer latencies (cycles at 1 GHz, so ns) and relative energies of the models of published evaluations.
# Shapes and variants: the authors' public layer-variant repository (Apache-2.0), for the models of XRBench its repository.
# Latencies and energies: the public XRBench edition of the MAESTRO cost model.
# A row with a variant and its gamma follows the original layer it can stand in for.
# Made by: scripts/scenario-tables.py
model,layer,variant,gamma,ws2048_ns,os1024_ns,os2048_ns,ws2048_energy,os1024_energy,os2048_energy
"""
ACCURACY = """\
# Accuracy of combinations of layer variants, as a share of the original model's: measured, from the authors' public
# layer-variant repository (Apache-2.0). Top-5; VOC mean average precision for mobilenetv2_ssd; delta-1 for sp2dense.
# Made by: scripts/scenario-tables.py
model,variants,normalized
"""


def rows(folder, name):
    with open(folder / name, newline="") as f:
        return list(csv.DictReader(f))


def check(holds, row):
    if not holds:
        sys.exit(f"scenario-tables: the row contradicts itself or others: {row}")


def layers(paper, used, number):
    table = {}
    for r in rows(paper, "layer_latency.csv") + rows(paper, "xrbench_stock_models_latency.csv"):
        model, variant, gamma = r["model"], 0, ""
        if r.get("variant") == "1":
            variant, gamma = number.get((model, r["variant_idx"]), (0, ""))
            if not variant:
                continue
        if model not in used:
            continue
        row = table.setdefault((model, int(r["layer_idx"]), variant), [model, r["layer"], variant or "", gamma] + [""] * 6)
        k = 4 + KINDS.index(r["dataflow"] + r["pes"])
        cycles = int(float(r["cycles"]))
        check(row[k] == "" and abs(float(r["us_at_1GHz"]) * 1000 - cycles) < 1e-3, r)
        row[k] = cycles
        if not variant:
            row[k + 3] = f"{float(r['energy_rel']):.10g}"
    for row in table.values():
        check("" not in row[4:7], row)
    return [table[key] for key in sorted(table)]


def accuracy(paper, used, number):
    for r in rows(paper, "variant_accuracy.csv"):
        share, normalized = float(r["accuracy"]) / float(r["baseline_accuracy"]), float(r["normalized"])
        valid = r["valid_at_0.9"] == "1"
        check(abs(normalized - share) < 1e-3 and (normalized >= 0.9) == valid and (share >= 0.9) == valid, r)
        if r["is_paper_metric"] != "1" or r["in_paper_subset"] != "1" or r["model"] not in used:
            continue
        if r["combination"] == "baseline":
            check(share == 1, r)
            continue
        names = [number[r["model"], name.removeprefix("idx")][0] for name in r["combination"].split("+")]
        yield [r["model"], "+".join(map(str, names)), r["normalized"]]


def main(paper, data):
    definitions = (data.parent / "published.go").read_text()
    used = set(re.findall(r'\{model: "(\w+)"', definitions))
    # Variants keep their order and are numbered from 1.
    number, count = {}, {}
    for r in rows(paper, "variant_layers.csv"):
        if r["in_paper_subset"] == "1":
            count[r["model"]] = count.get(r["model"], 0) + 1
            number[r["model"], r["variant_idx"]] = count[r["model"]], r["gamma_r"]
    for name, comment, make in ("layers.csv", LAYERS, layers), ("accuracy.csv", ACCURACY, accuracy):
        with open(data / name, "w", newline="") as f:
            f.write(comment)
            csv.writer(f, lineterminator="\n").writerows(make(paper, used, number))


if len(sys.argv) != 3:
    sys.exit(__doc__)
main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
