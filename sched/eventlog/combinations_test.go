package eventlog_test

import (
	"math"
	"testing"

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
