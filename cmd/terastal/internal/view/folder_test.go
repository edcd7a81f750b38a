package view

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/energy"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

const msec = time.Millisecond

// system has two models on two accelerators with different tastes; the first has a variant.
func system(first string) sched.System {
	layer := func(name string, us ...time.Duration) sched.Layer {
		l := sched.Layer{Name: name, Implementations: []sched.Implementation{{Name: "original"}}}
		for _, x := range us {
			l.Implementations[0].Latency = append(l.Implementations[0].Latency, x*time.Microsecond)
		}
		return l
	}
	s := sched.System{Accelerators: []string{"array", "vector"}, Models: []sched.Model{
		{Name: first, Deadline: 10 * msec, Variants: 1, Valid: []sched.VariantSet{1}, Accuracy: []float64{0.97},
			Layers: []sched.Layer{layer("stem", 900, 4000), layer("middle", 1500, 1200), layer("head", 300, 500)}},
		{Name: "small", Deadline: 6 * msec, Layers: []sched.Layer{layer("only", 800, 700)}},
	}}
	s.Models[0].Layers[0].Implementations = append(s.Models[0].Layers[0].Implementations,
		sched.Implementation{Name: "d2s", Variant: 1, Latency: []time.Duration{800 * time.Microsecond,
			1200 * time.Microsecond}})
	return s
}

// simulate is the log of a busy run, said to be of the driver.
func simulate(t testing.TB, first, policy, driver string, d time.Duration) *eventlog.Log {
	t.Helper()
	return simulateOn(t, system(first), policy, driver, d)
}

func simulateOn(t testing.TB, s sched.System, policy, driver string, d time.Duration) *eventlog.Log {
	t.Helper()
	l := &eventlog.Log{Header: eventlog.Header{Driver: driver, Policy: policy, Drop: "late", Queue: 16, Seed: 7,
		System: s, Rates: []float64{330, 420}, Duration: d}}
	var records eventlog.Buffer
	engine := testkit.Must(l.Header.Engine(&records, nil))(t)
	arrivals, err := (&traffic.Config{Rates: l.Header.Rates, Process: traffic.Poisson, Duration: d, Seed: 7}).Arrivals()
	testkit.OK(t, err)
	testkit.Must(sim.Run(sim.Config{Arrivals: arrivals, Engine: engine}))(t)
	l.Records = records
	return l
}

// folder has everything that a report can show. Names are those of a user who wants trouble, if first is.
func folder(t testing.TB, first string, duration time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, f func(path string) error) {
		testkit.OK(t, f(filepath.Join(dir, name)))
	}
	r := result.Result{Driver: eventlog.Real, Hardware: "a machine that was planted", ClockStepNS: 50,
		Host: hostinfo.Info{OS: "linux", CPU: "planted processor", LogicalCores: 4}, ORT: "1.29.0",
		Accelerators: []runtime.Spec{{Name: "array", Provider: "cpu", Threads: 1, Cores: []int{0}}, {Name: "vector",
			Provider: "cpu", Options: map[string]string{"b": "2", "a": "1"}}},
		Traffic: result.TrafficInfo{Arrivals: "poisson", Phases: "random", DurationS: duration.Seconds(), Seed: 7,
			Drop: "late", Load: .8}, Valid: true,
		Models: []result.ModelInfo{{Name: first, Granularity: "block", Layers: 3, RatePerS: 330, DeadlineMS: 10,
			LatencyMS: map[string]float64{"array": 2.7}, FastestMS: 2.4, Level: 2, Preferred: map[string]int{"array": 2,
				"vector": 1}},
			{Name: "small", Granularity: "op", Layers: 1, RatePerS: 420, DeadlineMS: 6, FastestMS: .7, Level: 1,
				Preferred: map[string]int{"vector": 1}}}}
	for n, policy := range []string{"edf", "terastal"} {
		l := simulate(t, first, policy, eventlog.Real, duration)
		r.Policies = append(r.Policies, result.PolicyResult{Metrics: l.Metrics(), Log: "elsewhere/" + policy + ".log.json",
			DecisionP99NS: 900,
			Verification:  &runtime.Verification{Verified: 8},
			Execution:     &result.Execution{Preempted: map[string]float64{"array": .01}}, Energy: taken(n)})
		write(policy+".log.json", l.Write)
	}
	r.Comparison = compared(first)
	write("result.json", func(path string) error { return writeJSON(path, r) })
	p, _ := testkit.Must2(plan.New(system(first), []plan.Model{{Rate: 330}, {Rate: 420}}, nil))(t)
	p.Variants = []plan.Variants{{Model: first, Proof: plan.Proof{Metric: "top-1 accuracy"}, Theta: .95,
		Chosen: []plan.Variant{{LayerName: "stem", Name: "d2s"}}}}
	write("plan.json", p.Write)
	write("profile.json", profileOf(t, system(first)).Write)
	write("validation.json", validated(planted(first)).Write)
	write("curves.json", func(path string) error {
		return document.Write(path, comparison.CurvesKind, comparison.CurvesVersion, curves())
	})
	return dir
}

// taken is the energy of the n-th policy.
func taken(n int) *result.Energy {
	j := 200 + 12.5*float64(n)
	return &result.Energy{GPUJ: j, CPUJ: 40, PerMet: (j + 40) / 500, ElapsedS: 2, Sources: []energy.Source{
		{Name: "NVIDIA L4", Kind: energy.GPU, How: energy.ByCounter, Joules: j},
		{Name: "package-0", Kind: energy.CPU, How: energy.ByCounter, Joules: 40}}}
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return document.WriteFile(path, data)
}

func profileOf(t testing.TB, s sched.System) *profiler.Profile {
	t.Helper()
	p := testkit.Must(profiler.FromSystem(&s, profiler.TableOptions{Source: "planted"}))(t)
	p.ORT, p.Host = "1.29.0", hostinfo.Info{CPU: "planted processor", LogicalCores: 10}
	for m := range p.Models {
		p.Models[m].SHA256, p.Models[m].Granularity = strings.Repeat("ab", 32), "op"
	}
	// One place where the accelerator refused.
	last := &p.Cells[len(p.Cells)-1]
	*last = profiler.Cell{Model: last.Model, Layer: last.Layer, Implementation: last.Implementation,
		Accelerator: last.Accelerator, Refused: "no kernel"}
	return p
}

// validated is a document of runs, with two policies in the order that was predicted.
func validated(runs ...validation.Validation) *validation.Document {
	return &validation.Document{Notes: []string{"a doubt about the profile"}, Validations: runs,
		Order: []validation.Order{{Better: "terastal", Worse: "edf", RealBetter: .061, RealWorse: .11,
			PredictedBetter: .05, PredictedWorse: .09, Decided: true, Kept: true}}}
}

func planted(first string) validation.Validation {
	rank, near, far := .98, -.01, .25
	v := validation.Validation{Policy: "terastal", Predictor: "simulator", Decisions: 1234, Valid: true,
		Layers: validation.Agreement{N: 4000, MAPE: .06, Bias: -.01, Within5: .6, Within10: .9, Rank: &rank}}
	for i := range 12 {
		us := 40 * math.Pow(1.5, float64(i))
		v.Cells = append(v.Cells, validation.Cell{Model: first, Layer: fmt.Sprintf("layer %d", i),
			Implementation: "original", Accelerator: []string{"array", "vector"}[i%2], Runs: 300,
			PredictedUS: us, MeasuredUS: us * (0.9 + .02*float64(i))})
	}
	for _, name := range []string{first, "small"} {
		m := validation.Model{Model: name, Deadline: 10,
			Real: validation.Outcomes{Totals: eventlog.Totals{Released: 700, Met: 680, Late: 20},
				MissRate: .029, MissLow: .02, MissHigh: .045,
				P50MS: 3, P90MS: 7, P99MS: 11},
			Predicted: validation.Outcomes{Totals: eventlog.Totals{Released: 700, Met: 684, Late: 16},
				MissRate: .023, MissLow: .015, MissHigh: .037,
				P50MS: 2.9, P90MS: 6.5, P99MS: 10}}
		for q := 1; q < 100; q++ {
			x := 12 * -math.Log(1-float64(q)/101)
			m.Real.Quantiles, m.Predicted.Quantiles = append(m.Real.Quantiles, x), append(m.Predicted.Quantiles, .95*x)
		}
		given := m.Real
		given.MissRate, given.Quantiles = .0277, m.Predicted.Quantiles
		m.Given = &given
		v.Models = append(v.Models, m)
	}
	v.Accelerators = []validation.Accelerator{{Accelerator: "array", Real: .8, Predicted: .78}}
	v.Sources = []validation.Source{{Name: "interference", What: "layers took longer next to busy neighbours", Share: .6,
		MeanUS: 12}, {Name: "noise", What: "what is left", Share: .4, MeanUS: -1}}
	v.Checks = []validation.Check{{What: "small p50", Real: 3, Predicted: 2.9, Unit: "ms", Off: .03, Limit: .05,
		OK: true, OffGiven: &far},
		{What: "small p99", Real: 11, Predicted: 9, Unit: "ms", Off: -.18, Limit: .1, OffGiven: &near},
		{What: "small miss rate", Real: .029, Predicted: .108, Unit: "points", Off: .079, Limit: .02, OffGiven: &near}}
	return v
}

func curves() comparison.Curves {
	c := comparison.Curves{Driver: "simulated", Source: "planted.yaml", DurationS: 12, Limit: .05}
	for n, policy := range []string{"edf", "terastal"} {
		x := comparison.Curve{Policy: policy}
		for i := range 12 {
			s := math.Round(5+float64(i)) / 10
			miss := max(0, math.Pow(s, 3)*.1-.03*float64(n))
			x.Points = append(x.Points, comparison.Point{Scale: s, Load: .7 * s, Miss: miss, Low: .8 * miss,
				High: 1.2*miss + .01, Runs: 5})
		}
		c.Curves = append(c.Curves, x)
	}
	sustains, surely, not := .8, .7123, .9321
	c.Curves[0].Sustains, c.Curves[0].Surely, c.Curves[0].SurelyNot = &sustains, &surely, &not
	return c
}

func compared(first string) *comparison.Comparison {
	measure := func(x float64, claimed bool) comparison.Measure {
		return comparison.Measure{Median: x, Low: .9 * x, High: 1.1 * x, Values: []float64{x, .9 * x, 1.1 * x},
			Claimed: claimed}
	}
	against := func(m comparison.Measure, difference float64, significant bool) comparison.Measure {
		low, high, p := difference-.011, difference+.012, .008
		m.Difference, m.DifferenceLow, m.DifferenceHigh, m.P, m.Significant = &difference, &low, &high, &p, significant
		return m
	}
	ratio, joules, fewer := .8, measure(.48, true), against(measure(.4, true), -.08, true)
	base := comparison.Model{Model: first, Miss: measure(.1, true), P50: measure(3, true), P99: measure(9, false)}
	return &comparison.Comparison{Driver: "real", Repeats: 3, Confidence: .75, Baseline: "edf",
		Policies: []comparison.Policy{
			{Policy: "edf", Miss: measure(.1, true), PerMet: &joules, Models: []comparison.Model{base}},
			{Policy: "terastal", Miss: against(measure(.06, true), -.04, true), Geomean: &ratio, PerMet: &fewer,
				Models: []comparison.Model{{Model: first, Miss: against(measure(.09, true), -.01, false), P50: measure(3, true),
					P99: measure(9, true)}}}},
		AA: &comparison.Policy{Policy: "edf", Miss: against(measure(.101, true), .003, false),
			Models: []comparison.Model{base}}}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data := testkit.Must(os.ReadFile(from))(t)
	testkit.Write(t, to, data)
}
