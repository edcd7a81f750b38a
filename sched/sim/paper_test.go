package sim_test

import (
	"cmp"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
)

// paperFolder is where the tables of the published evaluation lie: the folder
// paper in TERASTAL_SHARED, else in shared beside the repository.
func paperFolder(t testing.TB) string {
	t.Helper()
	shared := os.Getenv("TERASTAL_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	folder := filepath.Join(shared, "paper")
	if _, err := os.Stat(filepath.Join(folder, "layer_latency.csv")); err != nil {
		t.Skipf("the paper's tables are not here: %v", err)
	}
	return folder
}

// table reads a CSV file as one map per row, keyed by the header.
func table(t testing.TB, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, cell := range row {
			m[rows[0][i]] = cell
		}
		out = append(out, m)
	}
	return out
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func atof(t testing.TB, s string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// scenario is a list of models with their rates on accelerators named by their
// dataflow and number of processing elements.
type scenario struct {
	accelerators []string // DATAFLOW-PES
	models       []string
	rates        []float64
}

// mcvHeavy is the scenario mcv_heavy on hardware 6K.
var mcvHeavy = scenario{
	accelerators: []string{"WS-2048", "OS-2048", "OS-2048"},
	models:       []string{"mobilenetv2_ssd", "resnet50", "vgg11", "inceptionv3", "swin_tiny"},
	rates:        []float64{60, 30, 30, 15, 30},
}

// system builds the scenario's task system from the tables: deadlines are the
// periods, variants those measured, valid the combinations that keep at least
// theta of the baseline's accuracy.
func (s scenario) system(t testing.TB, folder string, theta float64) sched.System {
	var sys sched.System
	for k, name := range s.accelerators {
		sys.Accelerators = append(sys.Accelerators, name+string(rune('a'+k)))
	}
	latency := table(t, filepath.Join(folder, "layer_latency.csv"))
	accuracy := table(t, filepath.Join(folder, "variant_accuracy.csv"))
	for i, name := range s.models {
		m := sched.Model{Name: name, Deadline: time.Duration(float64(time.Second) / s.rates[i])}
		type key struct{ layer, variant int }
		times := map[key]map[string]time.Duration{}
		names := map[int]string{}
		for _, row := range latency {
			if row["model"] != name {
				continue
			}
			k := key{layer: atoi(t, row["layer_idx"])}
			if row["variant"] == "1" {
				k.variant = 1 + atoi(t, row["variant_idx"])
			}
			if times[k] == nil {
				times[k] = map[string]time.Duration{}
			}
			times[k][row["dataflow"]+"-"+row["pes"]] = time.Duration(atof(t, row["us_at_1GHz"]) * 1e3)
			names[k.layer] = row["layer"]
		}
		keys := make([]key, 0, len(times))
		for k := range times {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b key) int {
			return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.variant, b.variant))
		})
		for _, k := range keys {
			im := sched.Implementation{Name: "original", Variant: k.variant}
			for _, acc := range s.accelerators {
				im.Latency = append(im.Latency, times[k][acc])
			}
			if k.variant == 0 {
				m.Layers = append(m.Layers, sched.Layer{Name: names[k.layer]})
			} else {
				im.Name = "d2s"
				m.Variants = max(m.Variants, k.variant)
			}
			l := &m.Layers[len(m.Layers)-1]
			l.Implementations = append(l.Implementations, im)
		}
		for _, row := range accuracy {
			if row["model"] == name && row["is_paper_metric"] == "1" && row["combination"] != "baseline" && atof(t, row["normalized"]) >= theta {
				var set sched.VariantSet
				for _, variant := range strings.Split(row["combination"], "+") {
					set |= 1 << atoi(t, strings.TrimPrefix(variant, "idx"))
				}
				m.Valid = append(m.Valid, set)
			}
		}
		sys.Models = append(sys.Models, m)
	}
	return sys
}

// missRateOne is the mean over models of the miss rates of one run.
func missRateOne(t testing.TB, sys sched.System, policy string, traffic sched.Traffic, drop sched.DropPolicy, seed uint64) float64 {
	t.Helper()
	tables, err := sched.Compile(sys)
	if err != nil {
		t.Fatal(err)
	}
	traffic.Seed = seed
	arrivals, err := traffic.Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	p, err := sched.NewPolicy(policy, tables)
	if err != nil {
		t.Fatal(err)
	}
	var records eventlog.Buffer
	if _, err := sim.Run(sim.Config{Arrivals: arrivals,
		Engine: sched.Config{Tables: tables, Policy: p, Drop: drop, Recorder: &records}}); err != nil {
		t.Fatal(err)
	}
	log := eventlog.Log{Header: eventlog.Header{System: sys, Rates: traffic.Rates}, Records: records}
	if err := log.Validate(); err != nil {
		t.Fatal(err)
	}
	return log.Metrics().MeanMissRate
}

// missRate is the mean of the seeds' miss rates.
func missRate(t testing.TB, sys sched.System, policy string, traffic sched.Traffic, drop sched.DropPolicy, seeds int) float64 {
	t.Helper()
	sum := 0.0
	for seed := range seeds {
		sum += missRateOne(t, sys, policy, traffic, drop, uint64(seed))
	}
	return sum / float64(seeds)
}

// TestPaperOrder repeats mcv_heavy on 6K, periodic with random phases, late
// requests dropped, 24 seeds of 2 s, for which our notes on the paper have .080
// (FCFS), .049 (EDF) and .015 (Terastal). The mean of 24 seeds has a standard
// error of .012, .009 and .007: over 240 seeds they are .077, .061 and .024.
func TestPaperOrder(t *testing.T) {
	folder := paperFolder(t)
	sys := mcvHeavy.system(t, folder, 0.9)
	traffic := sched.Traffic{Rates: mcvHeavy.rates, Duration: 2 * time.Second}
	miss := map[string]float64{}
	for _, p := range sched.Policies() {
		miss[p.Name] = missRate(t, sys, p.Name, traffic, sched.DropLate, 24)
		t.Logf("%-10s %.4f", p.Name, miss[p.Name])
	}
	if !(miss["terastal"] < miss["edf"] && miss["edf"] < miss["fcfs"]) {
		t.Errorf("the order is not terastal < edf < fcfs: %v", miss)
	}
	// What these seeds gave when this was written.
	if miss["terastal"] > 0.025 {
		t.Errorf("terastal misses %v, more than 0.025", miss["terastal"])
	}
}

// BenchmarkSimulate measures simulated layers per second on mcv_heavy.
func BenchmarkSimulate(b *testing.B) {
	sys := mcvHeavy.system(b, paperFolder(b), 0.9)
	tables, err := sched.Compile(sys)
	if err != nil {
		b.Fatal(err)
	}
	traffic := sched.Traffic{Rates: mcvHeavy.rates, Duration: 2 * time.Second, Seed: 1}
	arrivals, err := traffic.Arrivals()
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range sched.Policies() {
		b.Run(p.Name, func(b *testing.B) {
			var layers counter
			for b.Loop() {
				policy, err := sched.NewPolicy(p.Name, tables)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := sim.Run(sim.Config{Arrivals: arrivals,
					Engine: sched.Config{Tables: tables, Policy: policy, Drop: sched.DropLate, Recorder: &layers}}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(layers)/b.Elapsed().Seconds(), "layers/s")
		})
	}
}

// counter counts completed layers.
type counter int

func (c *counter) Record(r sched.Record) {
	if r.Kind == sched.Completed {
		*c++
	}
}
