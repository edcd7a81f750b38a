package traffic

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

func TestReadArrivals(t *testing.T) {
	const ms = time.Millisecond
	got, err := Read(strings.NewReader("model,release_us\n# a comment\na,2000\n\"b\", 0.5\nb,2000\na,1e3\na,0.0004\na,0.0006\n"), []string{"a", "b"})
	want := []Arrival{{At: 0, Model: 0}, {At: 1, Model: 0}, {At: 500, Model: 1}, {At: ms, Model: 0},
		{At: 2 * ms, Model: 0}, {At: 2 * ms, Model: 1}}
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
		testkit.Refused(Read(strings.NewReader(text), []string{"a", "b"}))(t, ErrInvalid, want)
	}
}

// TestBursts: the mean rate is the given one, all of it in bursts whose lengths and gaps have the given means.
func TestBursts(t *testing.T) {
	const on, off = 200 * time.Millisecond, 600 * time.Millisecond
	traffic := Config{Rates: []float64{100, 0}, Process: Bursts, BurstOn: on, BurstOff: off, Duration: 4000 * time.Second,
		Seed: 1}
	got := arrivals(t, traffic)
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
	if rate := float64(len(arrivals(t, traffic))) / traffic.Duration.Seconds(); math.Abs(rate-100) > 1 {
		t.Errorf("always on: %v per second, want 100", rate)
	}
}

// TestOtherProcesses: the closed loop begins with one request of each model that
// has a rate, a recording plays up to the duration, and given phases hold.
func TestOtherProcesses(t *testing.T) {
	closed := Config{Rates: []float64{5, 0, 7}, Process: ClosedLoop, Duration: time.Second}
	if got := arrivals(t, closed); !slices.Equal(got, []Arrival{{Model: 0}, {Model: 2}}) {
		t.Errorf("closed loop: %v", got)
	}
	recorded := Config{Rates: []float64{0, 0}, Process: Recorded, Duration: 10,
		Recorded: []Arrival{{At: 1, Model: 1}, {At: 1, Model: 0}, {At: 9, Model: 0}, {At: 10, Model: 0}}}
	got := arrivals(t, recorded)
	if !slices.Equal(got, recorded.Recorded[:3]) {
		t.Errorf("recorded: %v", got)
	}
	if got[0].At = 5; recorded.Recorded[0].At != 1 {
		t.Errorf("the list shares memory with the recording")
	}
	periodic := Config{Rates: []float64{100, 0, 200}, Duration: 20 * time.Millisecond, Seed: 4,
		FirstRelease: []time.Duration{3 * time.Millisecond, 0, 12 * time.Millisecond}}
	want := []Arrival{{At: 3 * time.Millisecond}, {At: 12 * time.Millisecond, Model: 2}, {At: 13 * time.Millisecond},
		{At: 17 * time.Millisecond, Model: 2}}
	if got := arrivals(t, periodic); !slices.Equal(got, want) {
		t.Errorf("first releases: %v, want %v", got, want)
	}
	// A model without releases leaves those of the others as they were.
	with := Config{Rates: []float64{50, 60}, Process: Poisson, Duration: time.Second, Seed: 9}
	without := with
	without.Rates = []float64{0, 60}
	only := slices.DeleteFunc(arrivals(t, with), func(a Arrival) bool { return a.Model == 0 })
	if got := arrivals(t, without); !slices.Equal(got, only) {
		t.Errorf("rate 0 changed the other model's arrivals")
	}
}
