package gobench

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"golang.org/x/perf/benchfmt"
)

// TestWriter: what is written is what benchstat's reader gets.
func TestWriter(t *testing.T) {
	var b strings.Builder
	w := NewWriter(&b)
	w.Config(Fact{"cpu", "A  very\nlong name"}, Fact{"governor", ""})
	w.Unit("miss-rate", Lower)
	w.Result("Run", []Part{{"model", "a/b 100% c"}, {"policy", "edf-2"}}, 7, Value{0.25, "miss-rate"}, Value{3, "p50-ns"})
	testkit.OK(t, w.Err())
	r := benchfmt.NewReader(strings.NewReader(b.String()), "test")
	results := 0
	for r.Scan() {
		switch x := r.Result().(type) {
		case *benchfmt.SyntaxError:
			t.Errorf("%v in\n%s", x, b.String())
		case *benchfmt.Result:
			results++
			if got := string(x.Name); got != "Run/model=a%2Fb_100%25_c/policy=edf-2-1" {
				t.Errorf("name %q", got)
			}
			if x.Iters != 7 || x.GetConfig("cpu") != "A very long name" || len(x.Config) != 1 {
				t.Errorf("%d iterations, configuration %v", x.Iters, x.Config)
			}
			miss, _ := x.Value("miss-rate")
			p50, _ := x.Value("p50-sec") // as benchstat knows the unit
			if miss != 0.25 || math.Abs(p50-3e-9) > 1e-15 {
				t.Errorf("values %v", x.Values)
			}
		}
	}
	if results != 1 || r.Units().GetBetter("miss-rate") != -1 {
		t.Errorf("%d results, lower miss rates are %d:\n%s", results, r.Units().GetBetter("miss-rate"), b.String())
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriterKeepsTheError(t *testing.T) {
	w := NewWriter(broken{})
	w.Unit("x", Higher)
	w.Result("Run", nil, 1, Value{1, "x"})
	testkit.Fails(t, w.Err(), "disk full")
}
