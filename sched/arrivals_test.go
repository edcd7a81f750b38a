package sched_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/sched"
)

func arrivalsOf(t *testing.T, traffic sched.Traffic) []sched.Arrival {
	t.Helper()
	out, err := traffic.Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReadArrivals(t *testing.T) {
	const ms = time.Millisecond
	got, err := sched.ReadArrivals(strings.NewReader("model,release_us\n# a comment\na,2000\n\"b\", 0.5\nb,2000\na,1e3\na,0.0004\na,0.0006\n"), []string{"a", "b"})
	want := []sched.Arrival{{At: 0, Model: 0}, {At: 1, Model: 0}, {At: 500, Model: 1}, {At: ms, Model: 0}, {At: 2 * ms, Model: 0}, {At: 2 * ms, Model: 1}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("read %v (%v), want %v", got, err, want)
	}
	for text, want := range map[string]string{
		"":                            "the file is empty",
		"a,1\n":                       `the header is "a,1"`,
		"model\n":                     "wrong number of fields",
		"model,release_us\nc,1\n":     `line 2: unknown model "c", have a, b`,
		"model,release_us\n\na,-1\n":  `line 3: release "-1"`,
		"model,release_us\na,NaN\n":   `release "NaN"`,
		"model,release_us\na,soon\n":  `release "soon"`,
		"model,release_us\na,1e30\n":  `release "1e30"`,
		"model,release_us\na,1,2\n":   "wrong number of fields",
		"model,release_us\n\"a,1\n\n": "quote",
	} {
		if _, err := sched.ReadArrivals(strings.NewReader(text), []string{"a", "b"}); !errors.Is(err, sched.ErrInvalidTraffic) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// TestBursts: the mean rate is the given one, all of it in bursts whose lengths
// and gaps have the given means.
func TestBursts(t *testing.T) {
	const on, off = 200 * time.Millisecond, 600 * time.Millisecond
	traffic := sched.Traffic{Rates: []float64{100, 0}, Process: sched.Bursts, BurstOn: on, BurstOff: off, Duration: 4000 * time.Second, Seed: 1}
	got := arrivalsOf(t, traffic)
	// The share of time on has a standard deviation of about 1.5 %.
	if rate := float64(len(got)) / traffic.Duration.Seconds(); math.Abs(rate-100) > 6 {
		t.Errorf("%v per second, want 100", rate)
	}
	// Within a burst the mean interval is 2.5 ms: gaps above 50 ms are phases off.
	gaps := 0
	for i := 1; i < len(got); i++ {
		if got[i].Model != 0 || got[i].At < got[i-1].At {
			t.Fatalf("arrival %d is %+v after %+v", i, got[i], got[i-1])
		}
		if got[i].At-got[i-1].At > 50*time.Millisecond {
			gaps++
		}
	}
	// An exponential gap of 600 ms exceeds 50 ms with probability .92.
	if want := traffic.Duration.Seconds() / (on + off).Seconds() * 0.92; math.Abs(float64(gaps)-want) > 0.06*want {
		t.Errorf("%d gaps, want about %.0f", gaps, want)
	}
	// Without phases off it is Poisson: no overdispersion.
	traffic.BurstOff = 0
	if rate := float64(len(arrivalsOf(t, traffic))) / traffic.Duration.Seconds(); math.Abs(rate-100) > 1 {
		t.Errorf("always on: %v per second, want 100", rate)
	}
}

// TestOtherProcesses: the closed loop begins with one request of each model that
// has a rate, a recording plays up to the duration, and given phases hold.
func TestOtherProcesses(t *testing.T) {
	closed := sched.Traffic{Rates: []float64{5, 0, 7}, Process: sched.ClosedLoop, Duration: time.Second}
	if got := arrivalsOf(t, closed); !slices.Equal(got, []sched.Arrival{{Model: 0}, {Model: 2}}) {
		t.Errorf("closed loop: %v", got)
	}
	recorded := sched.Traffic{Rates: []float64{0, 0}, Process: sched.Recorded, Duration: 10,
		Recorded: []sched.Arrival{{At: 1, Model: 1}, {At: 1, Model: 0}, {At: 9, Model: 0}, {At: 10, Model: 0}}}
	got := arrivalsOf(t, recorded)
	if !slices.Equal(got, recorded.Recorded[:3]) {
		t.Errorf("recorded: %v", got)
	}
	if got[0].At = 5; recorded.Recorded[0].At != 1 {
		t.Errorf("the list shares memory with the recording")
	}
	periodic := sched.Traffic{Rates: []float64{100, 0, 200}, FirstRelease: []time.Duration{3 * time.Millisecond, 0, 12 * time.Millisecond}, Duration: 20 * time.Millisecond, Seed: 4}
	want := []sched.Arrival{{At: 3 * time.Millisecond}, {At: 12 * time.Millisecond, Model: 2}, {At: 13 * time.Millisecond}, {At: 17 * time.Millisecond, Model: 2}}
	if got := arrivalsOf(t, periodic); !slices.Equal(got, want) {
		t.Errorf("first releases: %v, want %v", got, want)
	}
	// A model without releases leaves those of the others as they were.
	with := sched.Traffic{Rates: []float64{50, 60}, Process: sched.Poisson, Duration: time.Second, Seed: 9}
	without := with
	without.Rates = []float64{0, 60}
	only := slices.DeleteFunc(arrivalsOf(t, with), func(a sched.Arrival) bool { return a.Model == 0 })
	if got := arrivalsOf(t, without); !slices.Equal(got, only) {
		t.Errorf("rate 0 changed the other model's arrivals")
	}
}

func TestInvalidProcesses(t *testing.T) {
	for want, change := range map[string]func(*sched.Traffic){
		"bursts of 0s":                    func(t *sched.Traffic) { t.Process, t.BurstOff = sched.Bursts, 1 },
		"the second not negative":         func(t *sched.Traffic) { t.Process, t.BurstOn, t.BurstOff = sched.Bursts, 1, -1 },
		"too many":                        func(t *sched.Traffic) { t.Process, t.BurstOn, t.Duration = sched.Bursts, 1, time.Hour },
		"1 first releases for 2 models":   func(t *sched.Traffic) { t.FirstRelease = []time.Duration{0} },
		"first release of model 1 at -1n": func(t *sched.Traffic) { t.FirstRelease = []time.Duration{0, -1} },
		"recorded arrival 1":              func(t *sched.Traffic) { t.Recorded = []sched.Arrival{{At: 2}, {At: 1}} },
		"recorded arrival 0 of model 2":   func(t *sched.Traffic) { t.Recorded = []sched.Arrival{{Model: 2}} },
		"rate -1":                         func(t *sched.Traffic) { t.Rates[0] = -1 },
		"too low to have a period":        func(t *sched.Traffic) { t.Rates[0] = 1e-308 },
	} {
		traffic := sched.Traffic{Rates: []float64{1, 1}, Duration: time.Second}
		change(&traffic)
		if _, err := traffic.Arrivals(); !errors.Is(err, sched.ErrInvalidTraffic) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestEffectiveRates: along a chain of triggers probabilities multiply.
func TestEffectiveRates(t *testing.T) {
	layers := []sched.Layer{{Implementations: []sched.Implementation{{Latency: []time.Duration{1}}}}}
	sys := sched.System{Accelerators: []string{"x"}, Models: []sched.Model{
		{Name: "c", Deadline: 1, Layers: layers, Trigger: &sched.Trigger{Parent: "b", Probability: 0.25}},
		{Name: "a", Deadline: 1, Layers: layers},
		{Name: "b", Deadline: 1, Layers: layers, Trigger: &sched.Trigger{Parent: "a", Probability: 0.5}},
	}}
	rates := []float64{7, 80, 0}
	if got := compile(t, sys).EffectiveRates(rates); !slices.Equal(got, []float64{10, 80, 40}) || rates[0] != 7 {
		t.Errorf("rates %v from %v", got, rates)
	}
	for want, trigger := range map[string]*sched.Trigger{
		`triggered by "d", which is no model`:        {Parent: "d", Probability: 1},
		`triggered by itself, through`:               {Parent: "c", Probability: 1},
		`probability 0, must be above 0`:             {Parent: "b"},
		`probability 1.5, must be above 0`:           {Parent: "b", Probability: 1.5},
		`probability NaN, must be above 0 and at mo`: {Parent: "b", Probability: math.NaN()},
	} {
		broken := sys
		broken.Models = slices.Clone(sys.Models)
		broken.Models[1].Trigger = trigger
		if want[0] == 'p' {
			broken.Models[1].Trigger, broken.Models[2].Trigger = nil, trigger
		}
		if _, err := sched.Compile(broken); !errors.Is(err, sched.ErrInvalidSystem) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestAccuracyOf(t *testing.T) {
	measured := sched.Model{Valid: []sched.VariantSet{1, 3}, Accuracy: []float64{0.95, 0.9}}
	bounded := sched.Model{Loss: []float64{0.25, 0.125}, MaxLoss: 1}
	nan := math.NaN()
	for _, c := range []struct {
		m    sched.Model
		used sched.VariantSet
		want float64
	}{
		{measured, 0, 1}, {measured, 1, 0.95}, {measured, 3, 0.9}, {measured, 2, nan},
		{sched.Model{Valid: []sched.VariantSet{1}}, 1, nan},
		{bounded, 0, 1}, {bounded, 1, 0.75}, {bounded, 2, 0.875}, {bounded, 3, 0.625},
	} {
		if got := c.m.AccuracyOf(c.used); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("the accuracy of %b in %+v is %v, want %v", c.used, c.m, got, c.want)
		}
	}
}
