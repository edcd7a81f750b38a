package validation

import (
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
)

// profiled is a profile of the system with interference, a conversion and a dispatch time.
func profiled(t *testing.T, sys sched.System) *profiler.Profile {
	t.Helper()
	p := testkit.Must(profiler.FromSystem(&sys, profiler.TableOptions{Source: "test", Now: time.Unix(0, 0)}))(t)
	p.Interference = []profiler.Interference{{Accelerator: 0, Busy: 1, Slowdown: .5, N: 1}}
	p.Handoffs = []profiler.Handoff{{Model: 0, Layer: 1, From: 1, To: 0, Tensors: 1, P50: 100 * us}}
	p.Dispatches = []profiler.Dispatch{{Accelerator: 0, N: 1, P50: 2 * us}, {Accelerator: 1, N: 1, P50: 3 * us}}
	return p
}

// TestFromProfile: what is predicted for a run follows from the state it met.
func TestFromProfile(t *testing.T) {
	sys := pairOfModels()
	p := testkit.Must(FromProfile(profiled(t, sys), &sys))(t)
	for _, c := range []struct {
		run  layerRun
		want time.Duration
	}{
		{layerRun{place: place{0, 1, 0, 0}, from: sched.Idle}, 902 * us},
		{layerRun{place: place{0, 1, 0, 0}, from: 0, overlap: []float64{0, 1}}, 1352 * us},
		{layerRun{place: place{0, 1, 0, 0}, from: 1, overlap: []float64{0, 0}}, 1002 * us},
		{layerRun{place: place{0, 1, 0, 0}, from: 1, overlap: []float64{0, .5}}, 1252 * us},
		{layerRun{place: place{0, 1, 0, 1}, from: 0, overlap: []float64{1, 0}}, 503 * us},
	} {
		if got := p.of(&c.run).total(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.run, got, c.want)
		}
	}
}

// TestFromOtherProfile: a profile of something else is refused with the first difference.
func TestFromOtherProfile(t *testing.T) {
	for want, change := range map[string]func(p *profiler.Profile){
		`accelerators ["z" "y"], the log has ["x" "y"]`: func(p *profiler.Profile) { p.Accelerators[0].Name = "z" },
		"1 models, the log has 2":                       func(p *profiler.Profile) { p.Models = p.Models[:1] },
		`model "c" with 3 layers, the log has "a"`:      func(p *profiler.Profile) { p.Models[0].Name = "c" },
		`layer "b9" of "b"`:                             func(p *profiler.Profile) { p.Models[1].Layers[1].Name = "b9" },
		`implementations ["original" "half"]`: func(p *profiler.Profile) {
			p.Models[1].Layers[1].Implementations = []string{"original", "half"}
		},
		`it has no time of layer "a0" of "a" on "x"`: func(p *profiler.Profile) { p.Cells[0].Refused = "no" },
	} {
		sys := pairOfModels()
		p := profiled(t, sys)
		change(p)
		testkit.Refused(FromProfile(p, &sys))(t, ErrMismatch, want)
	}
}

// TestSameProfile: a run's tables are known to be of a profile.
func TestSameProfile(t *testing.T) {
	sys := pairOfModels()
	p := profiled(t, sys)
	planned := testkit.Must(p.System([]time.Duration{time.Second, time.Second}, profiler.P95))(t)
	if !SameProfile(p, &planned) {
		t.Errorf("the profile is not known again")
	}
	c := &p.Cells[3]
	c.Min, c.Mean, c.P50, c.P90, c.P95, c.P99 = 2*c.Min, 2*c.Mean, 2*c.P50, 2*c.P90, 2*c.P95, 2*c.P99
	if SameProfile(p, &planned) {
		t.Errorf("another profile is taken for it")
	}
}

// TestLevels: every simulation has its own level for each accelerator, as far apart as the profile's two measurements.
func TestLevels(t *testing.T) {
	sys := pairOfModels()
	p := profiled(t, sys)
	p.Noise = &profiler.Noise{Median: .0954}
	var logs []float64
	for seed := range uint64(2000) {
		d := testkit.Must(leveled(p)(seed))(t)
		a, b := d(0, sched.Dispatch{From: sched.Idle}), d(0, sched.Dispatch{From: sched.Idle, Layer: 1})
		x, y := math.Log(float64(a)/float64(402*us)), math.Log(float64(b)/float64(902*us))
		if math.Abs(x-y) > 1e-4 {
			t.Fatalf("seed %d: layers of one accelerator have levels %v and %v", seed, x, y)
		}
		logs = append(logs, x)
	}
	if half := student(logs) / 1.961; math.Abs(half-.1) > .008 {
		t.Errorf("levels differ by %v, want 0.1", half)
	}
}

// TestAtPace: simulated at a run's own pace, a machine that is slower than
// profiled, and more so at times, gives what it gave.
func TestAtPace(t *testing.T) {
	sys := pairOfModels()
	log := planted(newRand(5))[Drift].play(t, sys, "fcfs", 5)
	slow := pairOfModels()
	for m := range slow.Models {
		for l := range slow.Models[m].Layers {
			for k := range slow.Accelerators {
				slow.Models[m].Layers[l].Implementations[0].Latency[k] = 3 * slow.Models[m].Layers[l].Implementations[0].Latency[k] / 2
			}
		}
	}
	v := testkit.Must(Validate(Input{Log: log, Predictor: FromSystem(&slow)}))(t)
	for _, c := range v.Checks {
		if c.OffGiven == nil || math.Abs(*c.OffGiven) > c.Limit {
			t.Errorf("at its pace: %+v", c)
		}
	}
	if !slices.ContainsFunc(v.Checks, func(c Check) bool { return !c.OK }) {
		t.Errorf("a prediction that is off by half passes: %+v", v.Checks)
	}
}

// TestDocument: what is written is read again.
func TestDocument(t *testing.T) {
	log := world{}.play(t, pairOfModels(), "edf", 1)
	v := testkit.Must(Validate(Input{Log: log, Path: "edf.log.json", Predictor: FromSystem(&log.Header.System)}))(t)
	var d Document
	d.Add(v, log)
	d.Note("a note")
	d.Note("a note")
	path := filepath.Join(t.TempDir(), "validation.json")
	testkit.OK(t, d.Write(path))
	got := testkit.Must(Read(path))(t)
	if len(got.Notes) != 1 || len(got.Validations) != 1 || got.Validations[0].Log != "edf.log.json" ||
		got.Validations[0].Decisions != v.Decisions || len(got.Validations[0].Sources) != len(sourceNames) {
		t.Errorf("%+v", got)
	}
}
