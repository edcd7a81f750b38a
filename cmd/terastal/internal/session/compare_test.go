package session

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// calmRun is what a policy's run looks like that supports every claim.
func calmRun(policy string) *result.PolicyResult {
	totals := eventlog.Totals{Released: 1000, Met: 990, Late: 10}
	return &result.PolicyResult{
		Metrics: eventlog.Metrics{Policy: policy, Driver: eventlog.Real, Totals: totals, IdleLagP99US: 2500,
			MeanMissRate: 0.01,
			Models: []eventlog.ModelMetrics{{Model: "a", Totals: totals, DeadlineMS: 10, MissRate: 0.01, P50MS: 2, P99MS: 9},
				{Model: "b", Totals: totals, DeadlineMS: 40, MissRate: 0.01, P50MS: 3, P99MS: 9}}},
		Verification: &runtime.Verification{Verified: 8},
		Execution: &result.Execution{Preempted: map[string]float64{"first": 0.10, "second": 0.02},
			ElapsedNS: int64(10 * time.Second),
			Machine:   hostinfo.Counters{Throttled: 100 * time.Millisecond, Steal: time.Second, Busy: 9 * time.Second}},
	}
}

// TestTurnOrder: over as many repeats as there are turns each has every place once, and the order is the seed's.
func TestTurnOrder(t *testing.T) {
	for n := 1; n <= 7; n++ {
		for block := range 3 {
			at := make([]map[int]bool, n)
			for repeat := range n {
				order := turnOrder(n, block*n+repeat, 5)
				if !slices.Equal(order, turnOrder(n, block*n+repeat, 5)) {
					t.Fatal("the order changes")
				}
				for place, who := range order {
					if at[who] == nil {
						at[who] = map[int]bool{}
					}
					at[who][place] = true
				}
			}
			for who := range at {
				if len(at[who]) != n {
					t.Errorf("%d turns: %d had the places %v", n, who, at[who])
				}
			}
		}
	}
	if slices.Equal(turnOrder(6, 0, 1), turnOrder(6, 0, 2)) && slices.Equal(turnOrder(6, 0, 1), turnOrder(6, 6, 1)) {
		t.Error("neither seed nor repeat changes the order")
	}
}

// scripted plays what a function says, without hardware.
type scripted func(turn) (*result.PolicyResult, bool)

func (s scripted) labelled() []result.LabelledAccuracy { return nil }

func (s scripted) close() {}

func (s scripted) play(_ context.Context, t turn) (*result.PolicyResult, bool, error) {
	p, interrupted := s(t)
	return p, interrupted, nil
}

// on is the stage of a scripted player.
func on(play func(turn) (*result.PolicyResult, bool)) *stage {
	return &stage{player: scripted(play), doc: &result.Result{Valid: true}, seed: 7}
}

// comparing is a comparison of two policies under way.
func comparing(s *stage, o CompareOptions) *compared {
	return &compared{stage: s, options: o, policies: []string{"fcfs", "edf"}}
}

func concluding(c *compared) error {
	err := c.compare()
	c.doc.Conclude()
	return err
}

// TestCompareRepeats: every policy plays once per repeat with its seed, the baseline twice; files have distinct names.
func TestCompareRepeats(t *testing.T) {
	var stems []string
	seeds := map[uint64]int{}
	s := on(func(turn turn) (*result.PolicyResult, bool) {
		stems = append(stems, turn.stem(eventlog.Real))
		seeds[turn.seed]++
		r := calmRun(turn.policy)
		if turn.policy == "edf" {
			r.MeanMissRate = 0.05
		}
		return r, false
	})
	c := comparing(s, CompareOptions{Repeats: 6, Baseline: "fcfs", AA: true})
	for n := range 6 {
		if interrupted, err := c.repeat(context.Background(), n); interrupted || err != nil {
			t.Fatal(interrupted, err)
		}
	}
	testkit.OK(t, concluding(c))
	slices.Sort(stems)
	if want := len(stems); want != 18 || len(slices.Compact(slices.Clone(stems))) != want || stems[0] != "edf" ||
		!slices.Contains(stems, "fcfs.aa.2") || !slices.Contains(stems, "fcfs.6") {
		t.Errorf("files %v", stems)
	}
	if len(seeds) != 6 || seeds[7] != 3 || seeds[12] != 3 {
		t.Errorf("seeds %v", seeds)
	}
	r := c.doc
	if len(r.Policies) != 2 || r.Policies[0].Policy != "fcfs" || r.Again == nil || len(r.Later) != 5 ||
		r.Later[4].Seed != 12 || len(r.Later[0].Policies) != 2 {
		t.Errorf("%d policies, %d later repeats", len(r.Policies), len(r.Later))
	}
	x := r.Comparison
	if x == nil || x.Repeats != 6 || len(x.Order) != 6 || len(x.Order[0]) != 3 || !x.Policies[1].Miss.Significant ||
		x.AA.Miss.Significant || !r.Valid {
		t.Errorf("%+v, %q", x, r.Reasons)
	}
}

// TestCompareInterrupted: what is compared are the whole repeats; what was played besides is kept.
func TestCompareInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	turns := 0
	s := on(func(turn turn) (*result.PolicyResult, bool) {
		turns++
		if turns == 5 {
			stop()
		}
		return calmRun(turn.policy), turns == 5
	})
	c := comparing(s, CompareOptions{Repeats: 6, Baseline: "edf"})
	n := 0
	for ; n < 6; n++ {
		if interrupted, err := c.repeat(ctx, n); err != nil {
			t.Fatal(err)
		} else if interrupted {
			break
		}
	}
	testkit.OK(t, concluding(c))
	if x := c.doc.Comparison; n != 2 || x == nil || x.Repeats != 2 || len(x.Order) != 2 || len(c.doc.Later) != 2 ||
		len(c.doc.Later[1].Policies) != 1 {
		t.Errorf("interrupted in repeat %d: %+v", n+1, c.doc)
	}
	// Before the first repeat is whole there is nothing to compare.
	s.doc = &result.Result{Valid: true}
	c = comparing(s, CompareOptions{Repeats: 6, Baseline: "edf"})
	if interrupted, err := c.repeat(ctx, 0); !interrupted || err != nil || concluding(c) != nil ||
		c.doc.Comparison != nil {
		t.Errorf("%v, %v, %+v", interrupted, err, c.doc)
	}
}

// TestAADiffers: a baseline that differs from itself spoils the comparison.
func TestAADiffers(t *testing.T) {
	s := on(func(turn turn) (*result.PolicyResult, bool) {
		r := calmRun(turn.policy)
		if turn.again {
			r.MeanMissRate += 0.01
		}
		return r, false
	})
	c := comparing(s, CompareOptions{Repeats: 6, Baseline: "fcfs", AA: true})
	for n := range 6 {
		testkit.Must(c.repeat(context.Background(), n))(t)
	}
	if err := concluding(c); err != nil || c.doc.Valid || !c.doc.MachineOnly() ||
		!strings.Contains(c.doc.Reasons[0], "fcfs differs from itself: its mean miss rate by +1.00 points") {
		t.Errorf("%v, %q", err, c.doc.Reasons)
	}
}

// TestRealCurvesInterrupted: the points that were reached stay.
func TestRealCurvesInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	turns := 0
	s := on(func(turn turn) (*result.PolicyResult, bool) {
		if turns++; turns == 5 {
			stop()
		}
		return calmRun(turn.policy), turns == 5
	})
	asks := []comparison.Ask{{Curve: 0, Scale: 1}, {Curve: 1, Scale: 1}, {Curve: 0, Scale: 2}}
	r := realPoints{stage: s, curves: &comparison.Curves{Curves: []comparison.Curve{{Policy: "fcfs"}, {Policy: "edf"}}},
		seeds: 4, load: 1}
	points, err := r.play(ctx, asks)
	runs := 0
	for i := range points {
		runs += points[i].Runs
		if points[i].Runs == 0 || points[i].Scale != asks[i].Scale {
			t.Errorf("point %d: %+v", i, points[i])
		}
	}
	if err == nil || len(points) != 3 || runs != 4 || r.few.released != 1000 {
		t.Errorf("%v, %d runs, fewest %+v", err, runs, r.few)
	}
}

// TestFewest: a limit asks for as many requests as could show it.
func TestFewest(t *testing.T) {
	for _, c := range []struct {
		limit    float64
		released int
		enough   bool
	}{{0.01, 299, true}, {0.01, 298, false}, {0.1, 29, true}, {0.001, 2000, false}} {
		few, curves := fewest{}, comparison.Curves{Limit: c.limit}
		few.see([]eventlog.ModelMetrics{{Model: "a", Totals: eventlog.Totals{Released: 5000}},
			{Model: "b", Totals: eventlog.Totals{Released: c.released}}}, 0.5)
		few.see([]eventlog.ModelMetrics{{Model: "a", Totals: eventlog.Totals{Released: 9000}}}, 1)
		few.doubt(&curves)
		if len(curves.Reasons) == 0 != c.enough {
			t.Errorf("%d requests for %v: %q", c.released, c.limit, curves.Reasons)
		}
	}
}

func TestClockStep(t *testing.T) {
	if step := result.ClockStep(); step <= 0 {
		t.Errorf("the clock advances by %v", step)
	}
}
