package eventlog_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

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
		if got := eventlog.AccuracyOf(&c.m, c.used); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("the accuracy of %b in %+v is %v, want %v", c.used, c.m, got, c.want)
		}
	}
}

// accountModel draws a model and the sets that its requests may use.
func accountModel(t *rapid.T) sched.Model {
	m := sched.Model{Variants: rapid.IntRange(1, 6).Draw(t, "variants"), Floor: 0.9}
	if rapid.Bool().Draw(t, "bounded") {
		m.Loss, m.MaxLoss = rapid.SliceOfN(rapid.Float64Range(0, 0.1), m.Variants, m.Variants).Draw(t, "losses"), 1
		return m
	}
	for s := range sched.VariantSet(1) << m.Variants {
		m.Valid = append(m.Valid, s)
	}
	n := len(m.Valid)
	m.Accuracy = rapid.SliceOfN(rapid.Float64Range(0.5, 1.1), n, n).Draw(t, "accuracies")
	m.AccuracyError = rapid.SliceOfN(rapid.Float64Range(0, 0.1), n, n).Draw(t, "errors")
	return m
}

// TestAccount: the account is what adding up everything again for every request gives.
func TestAccount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := accountModel(t)
		a := eventlog.NewAccount(&m)
		if a.Mean() != 1 || a.Delivered() != 1 || a.Worst() != 1 {
			t.Fatalf("of no request: %v, %v, %v", a.Mean(), a.Delivered(), a.Worst())
		}
		set := rapid.Uint64Range(0, 1<<m.Variants-1)
		var kept, lost []float64
		worst, reach, bounded := 1.0, 0.0, false
		for n := range rapid.IntRange(1, 350).Draw(t, "requests") {
			used := sched.VariantSet(0)
			if n%7 != 0 { // long stretches without variants, too
				used = sched.VariantSet(set.Draw(t, "used"))
			}
			accuracy := eventlog.AccuracyOf(&m, used)
			kept, lost = append(kept, accuracy), append(lost, max(0, 1-accuracy))
			if used != 0 && m.Loss == nil {
				reach += stats.Normal95 * m.AccuracyError[used]
			}
			bounded = bounded || used != 0 && m.Loss != nil
			a.Finish(used)
			window := lost[max(0, len(lost)-sched.AccuracyWindow):]
			worst = min(worst, 1-total(window)/float64(len(window)))
			if !near(a.Recent(), 1-total(window)/float64(len(window))) || !near(a.Worst(), worst) {
				t.Fatalf("request %d: the window is %v and the worst %v, want %v", n+1, a.Recent(), a.Worst(), worst)
			}
		}
		n := float64(len(kept))
		if !near(a.Mean(), total(kept)/n) || !near(a.Delivered(), 1-total(lost)/n) || a.Finished() != len(kept) {
			t.Errorf("mean %v and delivered %v, want %v and %v", a.Mean(), a.Delivered(), total(kept)/n, 1-total(lost)/n)
		}
		low, high := a.Interval()
		switch {
		case bounded:
			if !math.IsNaN(low) || !math.IsNaN(high) {
				t.Errorf("a bound has the interval %v to %v", low, high)
			}
		case !near(low, total(kept)/n-reach/n) || !near(high, total(kept)/n+reach/n):
			t.Errorf("the interval is %v to %v", low, high)
		}
	})
}

func total(xs []float64) (sum float64) {
	for _, x := range xs {
		sum += x
	}
	return sum
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// TestAccountOfUnknown: an accuracy that nobody measured is never forgotten.
func TestAccountOfUnknown(t *testing.T) {
	a := eventlog.NewAccount(&sched.Model{Variants: 1, Valid: []sched.VariantSet{0, 1}, Floor: 0.9})
	for n := range 3 * sched.AccuracyWindow {
		used := sched.VariantSet(0)
		if n == 10 {
			used = 1
		}
		a.Finish(used)
	}
	if !math.IsNaN(a.Mean()) || !math.IsNaN(a.Delivered()) || !math.IsNaN(a.Worst()) {
		t.Errorf("mean %v, delivered %v, worst window %v", a.Mean(), a.Delivered(), a.Worst())
	}
}
