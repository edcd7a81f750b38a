package traffic

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"pgregory.net/rapid"
)

func arrivals(t interface{ Fatal(...any) }, traffic Config) []Arrival {
	out, err := traffic.Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ofModel are the release times of one model.
func ofModel(list []Arrival, model int) []time.Duration {
	var out []time.Duration
	for _, a := range list {
		if a.Model == model {
			out = append(out, a.At)
		}
	}
	return out
}

// number draws from 0 to n-1.
func number(t *rapid.T, n int, label string) int { return rapid.IntRange(0, n-1).Draw(t, label) }

// drawTraffic draws traffic with up to some hundred arrivals.
func drawTraffic(t *rapid.T) Config {
	traffic := Config{
		Process:  Process(number(t, 2, "process")),
		Phases:   Phases(number(t, 2, "phases")),
		Jitter:   rapid.SampledFrom([]float64{0, 0.25, 1}).Draw(t, "jitter"),
		Duration: time.Duration(rapid.Int64Range(1, int64(2*time.Second)).Draw(t, "duration")),
		Seed:     rapid.Uint64().Draw(t, "seed"),
	}
	for range 1 + number(t, 4, "models") {
		traffic.Rates = append(traffic.Rates, rapid.Float64Range(0.01, 100).Draw(t, "rate"))
	}
	return traffic
}

// TestTrafficLaws: arrivals are deterministic, ordered by time and model, within
// the duration, and one model's do not depend on the others.
func TestTrafficLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		traffic := drawTraffic(t)
		list := arrivals(t, traffic)
		if !slices.Equal(list, arrivals(t, traffic)) {
			t.Fatal("the same traffic gives other arrivals")
		}
		for i, a := range list {
			if a.At < 0 || a.At >= traffic.Duration {
				t.Fatalf("arrival %d at %v, outside of %v", i, a.At, traffic.Duration)
			}
			if i > 0 && (a.At < list[i-1].At || (a.At == list[i-1].At && a.Model < list[i-1].Model)) {
				t.Fatalf("arrivals %d and %d are not in order: %v %v", i-1, i, list[i-1], a)
			}
		}
		other := traffic
		other.Rates = slices.Clone(traffic.Rates)
		other.Rates[0] *= 1.5
		changed := arrivals(t, other)
		for m := 1; m < len(traffic.Rates); m++ {
			if !slices.Equal(ofModel(list, m), ofModel(changed, m)) {
				t.Fatalf("model 0's rate changed the arrivals of model %d", m)
			}
		}
		more := traffic
		more.Rates = append(slices.Clone(traffic.Rates), 50)
		changed = arrivals(t, more)
		for m := range traffic.Rates {
			if !slices.Equal(ofModel(list, m), ofModel(changed, m)) {
				t.Fatalf("a further model changed the arrivals of model %d", m)
			}
		}
		longer := traffic
		longer.Duration *= 2
		for m, at := range ofModel(arrivals(t, longer), 0) {
			if m < len(ofModel(list, 0)) && traffic.Jitter == 0 && at != ofModel(list, 0)[m] {
				t.Fatalf("a longer run has arrival %d at %v instead of %v", m, at, ofModel(list, 0)[m])
			}
		}
	})
}

// TestPeriodic: gaps of one period, a first release within it, and as many releases as fit.
func TestPeriodic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		traffic := drawTraffic(t)
		traffic.Process, traffic.Jitter = Periodic, 0
		list := arrivals(t, traffic)
		for m, rate := range traffic.Rates {
			period := float64(time.Second) / rate
			at := ofModel(list, m)
			phase := 0.0
			if len(at) > 0 {
				phase = float64(at[0])
			}
			if traffic.Phases == AlignedPhases && (len(at) == 0 || at[0] != 0) {
				t.Fatalf("model %d is not aligned: %v", m, at)
			}
			if phase >= period {
				t.Fatalf("model %d starts at %v, after its period of %v ns", m, at[0], period)
			}
			for n, x := range at {
				if math.Abs(float64(x)-phase-float64(n)*period) > 2 {
					t.Fatalf("model %d: release %d is at %v with a period of %v ns from %v ns", m, n, x, period, phase)
				}
			}
			if next := phase + float64(len(at))*period; len(at) > 0 && next < float64(traffic.Duration)-2 {
				t.Fatalf("model %d: no release at %v ns of %v", m, next, traffic.Duration)
			}
		}
	})
}

// TestJitter: every release is late by less than its share of the period, and some by more than half of that.
func TestJitter(t *testing.T) {
	traffic := Config{Rates: []float64{50, 20}, Duration: 20 * time.Second, Seed: 7}
	plain := arrivals(t, traffic)
	traffic.Jitter = 0.5
	late := arrivals(t, traffic)
	for m, rate := range traffic.Rates {
		most := time.Duration(0.5 * float64(time.Second) / rate)
		a, b := ofModel(plain, m), ofModel(late, m)
		top := time.Duration(0)
		for i := range b {
			by := b[i] - a[i]
			top = max(top, by)
			if by < 0 || by > most {
				t.Errorf("model %d: release %d is late by %v of at most %v", m, i, by, most)
			}
		}
		if top < most/2 || len(a)-len(b) > 1 {
			t.Errorf("model %d: late by at most %v of %v; %d releases instead of %d", m, top, most, len(b), len(a))
		}
	}
}

// TestPoisson: counts and gaps have the moments of a Poisson process, within
// five standard errors, and another seed gives other releases.
func TestPoisson(t *testing.T) {
	traffic := Config{Rates: []float64{100, 7}, Process: Poisson, Duration: 200 * time.Second, Seed: 5}
	list := arrivals(t, traffic)
	for m, rate := range traffic.Rates {
		at := ofModel(list, m)
		mean := rate * traffic.Duration.Seconds()
		if math.Abs(float64(len(at))-mean) > 5*math.Sqrt(mean) {
			t.Errorf("model %d: %d releases, expected %v", m, len(at), mean)
		}
		// Of exponential gaps, the variance is the squared mean, and a share 1/e is longer than the mean.
		var last time.Duration
		sum, squares, long := 0.0, 0.0, 0.0
		for _, x := range at {
			gap := (x - last).Seconds() * rate
			last = x
			sum, squares = sum+gap, squares+gap*gap
			if gap > 1 {
				long++
			}
		}
		n := float64(len(at))
		if v := squares/n - sum/n*sum/n; math.Abs(v-1) > 5*math.Sqrt(8/n) {
			t.Errorf("model %d: the gaps' variance is %v of the squared mean", m, v)
		}
		if p := 1 / math.E; math.Abs(long/n-p) > 5*math.Sqrt(p*(1-p)/n) {
			t.Errorf("model %d: %v of the gaps are longer than the mean", m, long/n)
		}
	}
	traffic.Seed++
	if slices.Equal(list, arrivals(t, traffic)) {
		t.Error("another seed gives the same releases")
	}
}

// TestModelsDiffer: models with the same rate have different releases.
func TestModelsDiffer(t *testing.T) {
	for _, process := range []Process{Periodic, Poisson} {
		list := arrivals(t, Config{Rates: []float64{10, 10}, Process: process, Duration: time.Second})
		if slices.Equal(ofModel(list, 0), ofModel(list, 1)) {
			t.Errorf("%v: both models are released at %v", process, ofModel(list, 0))
		}
	}
}

// TestPhases: random phases are spread over the period, seed by seed.
func TestPhases(t *testing.T) {
	const seeds = 1000
	sum := 0.0
	for seed := range uint64(seeds) {
		at := arrivals(t, Config{Rates: []float64{10}, Duration: 100 * time.Millisecond, Seed: seed})
		sum += at[0].At.Seconds() * 10
	}
	if mean := sum / seeds; math.Abs(mean-0.5) > 5*math.Sqrt(1.0/12/seeds) {
		t.Errorf("the mean phase is %v of the period", mean)
	}
}

func TestErrors(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"no rates":                        func(t *Config) { t.Rates = nil },
		"duration 0s":                     func(t *Config) { t.Duration = 0 },
		"rate -1 of model 1":              func(t *Config) { t.Rates[1] = -1 },
		"rate NaN":                        func(t *Config) { t.Rates[0] = math.NaN() },
		"rate +Inf":                       func(t *Config) { t.Rates[0] = math.Inf(1) },
		"too low to have a period":        func(t *Config) { t.Rates[0] = 1e-308 },
		"jitter -0.1":                     func(t *Config) { t.Jitter = -0.1 },
		"jitter 1.1":                      func(t *Config) { t.Jitter = 1.1 },
		"jitter NaN":                      func(t *Config) { t.Jitter = math.NaN() },
		"lower the rates":                 func(t *Config) { t.Rates[0] = 1e9 },
		"arrival process 9":               func(t *Config) { t.Process = 9 },
		"phases 9":                        func(t *Config) { t.Phases = 9 },
		"bursts of 0s":                    func(t *Config) { t.Process, t.BurstOff = Bursts, 1 },
		"the second not negative":         func(t *Config) { t.Process, t.BurstOn, t.BurstOff = Bursts, 1, -1 },
		"too many":                        func(t *Config) { t.Process, t.BurstOn, t.Duration = Bursts, 1, time.Hour },
		"1 first releases for 2 models":   func(t *Config) { t.FirstRelease = []time.Duration{0} },
		"first release of model 1 at -1n": func(t *Config) { t.FirstRelease = []time.Duration{0, -1} },
		"recorded arrival 1":              func(t *Config) { t.Recorded = []Arrival{{At: 2}, {At: 1}} },
		"recorded arrival 0 of model 2":   func(t *Config) { t.Recorded = []Arrival{{Model: 2}} },
	} {
		traffic := Config{Rates: []float64{1, 1}, Duration: time.Second}
		change(&traffic)
		testkit.Refused(traffic.Arrivals())(t, ErrInvalid, want)
	}
	// Very low rates are fine: no release, or one.
	for _, jitter := range []float64{0, 1} {
		low := Config{Rates: []float64{1e-12}, Duration: time.Second, Phases: AlignedPhases, Jitter: jitter}
		for _, a := range arrivals(t, low) {
			if a.At < 0 || a.At >= time.Second {
				t.Errorf("jitter %v: release at %v", jitter, a.At)
			}
		}
	}
}

func TestParseTraffic(t *testing.T) {
	for p := Periodic; p <= Recorded; p++ {
		if got, err := ParseProcess(p.String()); err != nil || got != p {
			t.Errorf("%v parses as %v, %v", p, got, err)
		}
	}
	for _, p := range []Phases{RandomPhases, AlignedPhases} {
		if got, err := ParsePhases(p.String()); err != nil || got != p {
			t.Errorf("%v parses as %v, %v", p, got, err)
		}
	}
	testkit.Refused(ParseProcess("now and then"))(t, "periodic, poisson")
	testkit.Refused(ParsePhases("lunar"))(t, "random, aligned")
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"model,release_us\na,1\nb,0.5\na,0\n",
		"# recorded\nmodel, release_us\n\"a\", 1e3\n",
		"", "model\n", "model,release_us\nc,1\n", "model,release_us\na,-1\n", "model,release_us\na,NaN\n",
		"model,release_us\na,1e300\n",
		"model,release_us\na\n", "model,release_us\n\"a,1\n", "\ufeffmodel,release_us\na,1\n", "model,release_us\r\na,1\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		arrivals, err := Read(strings.NewReader(text), []string{"a", "b"})
		if err != nil {
			testkit.Fails(t, err, ErrInvalid)
			return
		}
		if !slices.IsSortedFunc(arrivals, func(a, b Arrival) int { return int(max(-1, min(1, a.At-b.At))) }) {
			t.Fatalf("out of order: %v", arrivals)
		}
		// What is read can be played.
		traffic := Config{Rates: []float64{0, 0}, Process: Recorded, Recorded: arrivals, Duration: 1 << 50}
		played, err := traffic.Arrivals()
		if err != nil || !slices.Equal(played, arrivals) {
			t.Fatalf("read %v, played %v (%v)", arrivals, played, err)
		}
	})
}
