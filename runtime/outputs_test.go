package runtime_test

import (
	"context"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// A model whose outputs are asked for keeps those of all its finished requests, the others as many as are verified; and
// the originals are computed from the inputs that the samples read.
func TestOutputsByModel(t *testing.T) {
	b := open(t, nil, "op", "model")
	e := b.executor(t, b.system(alternate))
	for name, run := range map[string]func(context.Context, runtime.Options) (*runtime.Result, error){
		"edf": e.Run, runtime.Unscheduled: e.RunUnscheduled} {
		r := testkit.Must(run(t.Context(), runtime.Options{Policy: "edf", Traffic: released(2), Samples: 2,
			Outputs: []int{1000}, Queue: 1000}))(t)
		m := r.Log.Metrics()
		var kept [2]int
		for _, s := range r.Samples {
			kept[s.Model]++
		}
		if finished := m.Models[0].Met + m.Models[0].Late; finished < 20 || kept[0] != finished || kept[1] != 2 {
			t.Errorf("%s: %v outputs are kept of %d finished requests", name, kept, finished)
		}
		originals := testkit.Must(e.Originals(r.Samples))(t)
		for i, s := range r.Samples {
			out := e.Model(e.Models()[s.Model]).Outputs()[0]
			d := testkit.Must(models.Compare(out.Type, s.Outputs[0], originals[i][0]))(t)
			if !(d.MaxRel <= runtime.Tolerance) {
				t.Errorf("%s: job %d of input %d is off its original by %v", name, s.Job, s.Input, d.MaxRel)
			}
		}
	}
}
