package study_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/testkit"
)

// script runs one of the repository's scripts and returns what it printed.
func script(t *testing.T, name string, args ...string) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	out, _ := exec.Command(python, append([]string{"../../../../scripts/" + name}, args...)...).CombinedOutput()
	return string(out)
}

func writeCSV(t *testing.T, path string, results []study.Result) string {
	t.Helper()
	var b bytes.Buffer
	err := study.WriteCSV(&b, results)
	testkit.OK(t, errors.Join(err, os.WriteFile(path, b.Bytes(), 0o666)))
	return path
}

// TestEvaluation: the script that makes the tables of documents from CSV files
// joins shards, refuses rows that are there twice, and fills in a document.
func TestEvaluation(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, cells []study.Cell) string {
		return writeCSV(t, filepath.Join(dir, name), run(t, cells, options()))
	}
	script := func(args ...string) string { return script(t, "evaluation.py", args...) }
	all := few(t)
	whole := write("whole.csv", all)
	parts := []string{"merge"}
	for i := 3; i >= 1; i-- {
		parts = append(parts, write(fmt.Sprint(i), study.Shard(all, i, 3, 3)))
	}
	want := script("merge", whole)
	if got := script(parts...); got != want || strings.Count(got, "\n") != len(all)+1 {
		t.Errorf("merged shards\n%s\nthe whole\n%s", got, want)
	}
	if got := script("merge", whole, parts[1]); !strings.Contains(got, "is there twice") {
		t.Errorf("a shard twice: %s", got)
	}
	document := filepath.Join(dir, "document.md")
	text := "Words.\n"
	for _, name := range strings.Fields("size reductions policies grid losses") {
		text += "<!-- table " + name + " -->\nold\n<!-- end " + name + " -->\n"
	}
	testkit.Write(t, document, text)
	if out := script("published", "--into", document, whole); out != "" {
		t.Fatal(out)
	}
	filled := testkit.Must(os.ReadFile(document))(t)
	for _, want := range []string{"Words.\n<!-- table size -->\n20 combinations", "| own | periodic | 0.",
		"| terastal | 0."} {
		if !strings.Contains(string(filled), want) || strings.Contains(string(filled), "old") {
			t.Errorf("no %q in\n%s", want, filled)
		}
	}
}

// TestEvaluationAccuracy: policies at a floor stand next to those without, with the least accuracy of a model, and
// files from before there were floors are read.
func TestEvaluationAccuracy(t *testing.T) {
	dir := t.TempDir()
	g := study.Grid{Scenarios: []string{"paper/ar_social@4K"}, Traffics: []string{"poisson"}, Scales: []float64{1.3},
		Noises: []float64{0.1}, Drops: []string{"late"}, Policies: []string{"fcfs", "edf", "dream", "terastal", "pedf"}}
	others := run(t, cells(t, g), options())
	g.Policies, g.Floors = []string{"pedf"}, []float64{0.9776}
	floor := run(t, cells(t, g), options())
	low, kept := 0.985, 0.9791
	for m := range floor[0].Models {
		if x := &floor[0].Models[m]; x.AccuracyFloor > 0 {
			x.DeliveredAccuracy, x.WorstWindow = &kept, &low
		}
	}
	old := writeCSV(t, filepath.Join(dir, "old.csv"), others)
	rows := testkit.Must(csv.NewReader(bytes.NewReader(testkit.Must(os.ReadFile(old))(t))).ReadAll())(t)
	var text bytes.Buffer
	out := csv.NewWriter(&text)
	for _, newer := range []string{"accuracy_floor", "load", "stalls"} {
		at := slices.Index(rows[0], newer)
		for i := range rows {
			rows[i] = slices.Delete(rows[i], at, at+1)
		}
	}
	testkit.OK(t, out.WriteAll(rows))
	testkit.Write(t, old, text.String())
	curves := filepath.Join(dir, "curves.json")
	testkit.Write(t, curves, `{"body": {"driver": "simulated", "source": "paper/x", "duration_s": 2, "limit": 0.01,
		"further_limits": [0.05], "curves": [{"policy": "pedf", "accuracy_floor": 0.99, "points": [{"scale": 1, "load": 0.8,
		"runs": 3}, {"scale": 2, "load": 1.6, "runs": 3}], "sustains": 1, "exceeds": 2, "further": [{"sustains": 2}]}]}}`)
	printed := script(t, "evaluation.py", "accuracy", old, writeCSV(t, filepath.Join(dir, "floor.csv"), floor), "--curves",
		curves)
	for _, want := range []string{"Noise 10 % (1 combinations, 3 seeds each)", "\n| pedf | 0.", "\n| pedf at 0.9776 | 0.",
		" | 0.9791 | 0.9850 |", "accuracy of every model in every combination at least 0.9776 | 0.9791 | yes |",
		"| 1 % | pedf | | 0.80 |", "| 5 % | pedf | | 1.60 or more |"} {
		if !strings.Contains(printed, want) {
			t.Errorf("no %q in\n%s", want, printed)
		}
	}
}

// TestEvaluationSkewed: ours are held against every other policy; what misses more in every seed is named, once for the
// combination and once for its load.
func TestEvaluationSkewed(t *testing.T) {
	head := "scenario,traffic,scale,load,noise,stalls,drop,policy,seeds,mean_miss_rate,low,high,miss_bound," +
		"normalized_accuracy,accuracy_floor,by_model,by_seed\n"
	row := func(traffic, stalls, policy string, misses ...string) string {
		return fmt.Sprintf("hw/h100-5nets,%s,2,0.6,0.3,%s,late,%s,%d,%s,0,0,0,1,0,a=%[5]s/1,%s\n", traffic, stalls, policy,
			len(misses), misses[0], strings.Join(misses, " "))
	}
	path := filepath.Join(t.TempDir(), "sweep.csv")
	testkit.Write(t, path, head+row("poisson", "", "fifo", "0.3", "0.31", "0.32", "0.3")+
		row("poisson", "", "edf", "0.2", "0.21", "0.22", "0.24")+
		row("poisson", "", "pedf", "0.0049", "0.005", "0.006", "0.006")+
		row("poisson", "", "rollout", "0.21", "0.222", "0.231", "0.251")+
		row("bursts", "50ms/500ms", "fifo", "0.3", "0.31", "0.32", "0.3")+
		row("bursts", "50ms/500ms", "edf", "0.3", "0.31", "0.32", "0.34")+
		row("bursts", "50ms/500ms", "pedf", "0.3", "0.32", "0.31", "0.31"))
	out := script(t, "evaluation.py", "skewed", path)
	for _, want := range []string{"Noise 30 % (1 combinations, 4 seeds each)",
		"Noise 30 %, stalls 50ms every 500ms (1 combinations, 4 seeds each)", "| fifo | 0.3075 ",
		"pedf: 4 comparisons, 0 listed, 0 clear.", "rollout: 2 comparisons, 1 listed, 1 clear.",
		"| rollout | hw/h100-5nets | poisson | 0.60 | noise 30 % | 0.2285 | edf 0.2175 | +0.0110 | ",
		"| pedf at load 0.6 of hw/h100-5nets, Poisson, noise 30 %: at most 0.005 | 0.0049 | yes |",
		"| pedf significantly worse than no other policy in any combination (Holm, 5 %) | 0 of 4 | yes |",
		"(Holm, 5 %) | 1 of 2 | no |"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestCompared: what each policy got at each load, the load that it sustains, and the goals.
func TestCompared(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--plan", filepath.Join(dir, "plan.json")}
	testkit.Write(t, args[1], `{"body": {"capacities": [{"floor": 1, "scale": 2}, {"floor": 0.99, "scale": 3}]}}`)
	policy := func(name string, miss float64, used int) string {
		return fmt.Sprintf(`{"policy": %q, "mean_miss_rate": %g, "outputs_verified": 8, "models": [{"layers_run": 100,
			"variants_used": %d, "normalized_accuracy": 1.01, "delivered_accuracy": 0.993}]}`, name, miss, used)
	}
	for _, c := range []struct{ load, fcfs, pedf float64 }{{0.9, 0.04, 0}, {1.1, 0.06, 0.004}, {1.3, 0.2, 0.03}} {
		path := filepath.Join(dir, fmt.Sprintf("%g.json", c.load))
		testkit.Write(t, path, fmt.Sprintf(`{"hardware": "x", "valid": true, "traffic": {"load": %g, "duration_s": 3},
			"models": [{"rate_per_s": %g}], "policies": [%s, %s], "later_repeats": [{"policies": [%s, %s]}],
			"comparison": {"repeats": 2, "a_a": {"policy": "fcfs", "mean_miss_rate": {"difference": 0.001, "p": 0.7}}}}`,
			c.load, 1000*c.load, policy("fcfs", c.fcfs, 0), policy("pedf", c.pedf, 30), policy("fcfs", c.fcfs, 0),
			policy("pedf", c.pedf, 50)))
		args = append(args, path)
	}
	out := script(t, "compared.py", args...)
	for _, want := range []string{"1.1 of the originals' capacity, 1100 requests/s (2 repeats of 3 s)",
		"| pedf | 0.40 % | 0.9930 | - | 40.00 % | 16 |", "fcfs against itself: +0.10 points", "| fcfs | 1.00 | 1000 |",
		"| pedf | 1.30 or more | 1300 or more |", "| pedf misses at most 0.1 % at 0.9, every model's accuracy at least 0.99 " +
			"| 0.00 % at 0.9930 | yes |", "of the originals | 1.50 | yes |", "(fcfs 1.00, so 1.35) | 1.30 or more | no |",
		"those of the whole models with these variants | 48 verified, 0 wrong | yes |"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
