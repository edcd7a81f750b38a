package validation

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

func TestAgree(t *testing.T) {
	a := agree([]pair{{90, 100}, {104, 100}, {200, 100}, {1, 0}})
	if a.N != 3 || math.Abs(a.MAPE-(.10+.04+1)/3) > 1e-12 || math.Abs(a.Bias-(.10-.04-1)/3) > 1e-12 ||
		a.Within5 != 1./3 || a.Within10 != 2./3 {
		t.Errorf("%+v", a)
	}
	if len(a.Errors) != len(errorQuantiles) || a.Errors[0] != -1 || !slices.IsSorted(a.Errors) {
		t.Errorf("errors %v", a.Errors)
	}
	if empty := agree(nil); empty.N != 0 || empty.Rank != nil || empty.Errors != nil {
		t.Errorf("%+v", empty)
	}
}

// TestRank: any rising function keeps the correlation, any falling one turns it
// round; and it is Pearson's of ranks that are counted one by one.
func TestRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 40).Draw(t, "n")
		var pairs []pair
		for range n {
			pairs = append(pairs, pair{float64(rapid.IntRange(0, 9).Draw(t, "x")), float64(rapid.IntRange(0, 9).Draw(t, "y"))})
		}
		got, want := rank(pairs), plainRank(pairs)
		if (got == nil) != math.IsNaN(want) || got != nil && math.Abs(*got-want) > 1e-9 {
			t.Fatalf("%v, want %v", got, want)
		}
		if got == nil {
			return
		}
		for i := range pairs {
			pairs[i].measured = -math.Exp(pairs[i].measured)
		}
		if turned := rank(pairs); math.Abs(*turned+*got) > 1e-9 {
			t.Fatalf("%v turned round is %v", *got, *turned)
		}
	})
}

// plainRank counts ranks one by one.
func plainRank(pairs []pair) float64 {
	position := func(value func(pair) float64, of pair) (r float64) {
		for _, p := range pairs {
			switch {
			case value(p) < value(of):
				r++
			case value(p) == value(of):
				r += .5
			}
		}
		return r
	}
	n := float64(len(pairs))
	var x, y, xx, yy, xy float64
	for _, p := range pairs {
		a, b := position(func(p pair) float64 { return p.predicted }, p),
			position(func(p pair) float64 { return p.measured }, p)
		x, y, xx, yy, xy = x+a/n, y+b/n, xx+a*a/n, yy+b*b/n, xy+a*b/n
	}
	if xx-x*x < 1e-9 || yy-y*y < 1e-9 {
		return math.NaN()
	}
	return (xy - x*y) / math.Sqrt((xx-x*x)*(yy-y*y))
}

// TestMissInterval: where misses come in bursts the interval covers the truth as
// often as it says, about; Wilson's alone does not.
func TestMissInterval(t *testing.T) {
	const n, runs, truth = 4000, 400, 0.1
	r := rand.New(rand.NewPCG(1, 2))
	covered, wilsons := 0, 0
	for range runs {
		var jobs []ending
		missing := r.Float64() < truth
		for i := range n {
			// Bursts of 40 on average.
			if missing && r.Float64() < 1./40 || !missing && r.Float64() < truth/(1-truth)/40 {
				missing = !missing
			}
			e := ending{job: int64(i), release: time.Duration(i), outcome: sched.Met}
			if missing {
				e.outcome = sched.Dropped
			}
			jobs = append(jobs, e)
		}
		o := measured(jobs)
		if o.MissLow <= truth && truth <= o.MissHigh {
			covered++
		}
		if low, high := stats.Wilson(float64(o.Dropped)/float64(o.Released), float64(o.Released)); low <= truth && truth <= high {
			wilsons++
		}
	}
	if covered < runs*85/100 || wilsons > runs*50/100 {
		t.Errorf("covered %d of %d, Wilson's %d", covered, runs, wilsons)
	}
	if low, high := stats.Wilson(0, 100); low != 0 || math.Abs(high-0.037) > 0.0005 {
		t.Errorf("0 of 100: %v to %v", low, high)
	}
}

// TestOverlaps: what ran at the same time as a run, against counting nanosecond by nanosecond.
func TestOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		busy := make([][]span, 3)
		var runs []layerRun
		for k := range busy {
			at := time.Duration(0)
			for range rapid.IntRange(0, 6).Draw(t, "spans") {
				from := at + time.Duration(rapid.IntRange(0, 5).Draw(t, "gap"))
				at = from + time.Duration(rapid.IntRange(0, 5).Draw(t, "length"))
				busy[k] = append(busy[k], span{from, at})
				runs = append(runs, layerRun{place: place{accelerator: int32(k)}, started: from, ended: at})
			}
		}
		slices.SortStableFunc(runs, func(a, b layerRun) int { return int(a.ended - b.ended) })
		overlaps(runs, busy, []sched.Device{{Accelerators: []int{0, 2}}})
		for _, r := range runs {
			if onDevice := r.accelerator != 1 && r.ended > r.started; onDevice != (r.streams != nil) {
				t.Fatalf("run on %d: streams %v", r.accelerator, r.streams)
			} else if other := 2 - r.accelerator; onDevice && (len(r.streams) != 2 ||
				math.Abs(r.streams[1]-r.overlap[other]) > 1e-12 || math.Abs(r.streams[0]+r.streams[1]-1) > 1e-12) {
				t.Fatalf("run on %d: streams %v, overlaps %v", r.accelerator, r.streams, r.overlap)
			}
			for o := range busy {
				count := 0
				for at := r.started; at < r.ended; at++ {
					for _, s := range busy[o] {
						if o != int(r.accelerator) && s.from <= at && at < s.to {
							count++
						}
					}
				}
				want := 0.0
				if r.ended > r.started {
					want = float64(count) / float64(r.ended-r.started)
				}
				if math.Abs(r.overlap[o]-want) > 1e-12 {
					t.Fatalf("run on %d from %d to %d overlaps %d: %v, want %v", r.accelerator, r.started, r.ended, o, r.overlap[o], want)
				}
			}
		}
	})
}

// TestOrder: policies of the same traffic are compared, those of another not, and repeats count together.
func TestOrder(t *testing.T) {
	log := func(seconds int) *eventlog.Log {
		return &eventlog.Log{Header: eventlog.Header{Duration: time.Duration(seconds) * time.Second}}
	}
	run := func(policy string, real, predicted float64) *Validation {
		return &Validation{Policy: policy, Models: []Model{{Real: Outcomes{MissRate: real, MissLow: real - .05,
			MissHigh: real + .05}, Predicted: Outcomes{MissRate: predicted}}}}
	}
	var d Document
	d.Add(run("edf", .5, .3), log(1))
	d.Add(run("fcfs", .2, .4), log(1))
	d.Add(run("edf", .3, .1), log(1))
	d.Add(run("terastal", .21, .1), log(1))
	d.Add(run("llf", .9, .9), log(2))
	want := []Order{
		{"fcfs", "terastal", .2, .21, .4, .1, false, false},
		{"fcfs", "edf", .2, .4, .4, .2, true, false},
		{"terastal", "edf", .21, .4, .1, .2, true, true},
	}
	if !slices.Equal(d.Order, want) {
		t.Errorf("%+v", d.Order)
	}
}
