//go:build invariants || race

package sched

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

// TestInvariants: every way to break the state is found at the next step.
func TestInvariants(t *testing.T) {
	layer := Layer{Implementations: []Implementation{{Latency: []time.Duration{10, 20}},
		{Variant: 1, Latency: []time.Duration{5, Unavailable}}}}
	system := System{Accelerators: []string{"x", "y"},
		Models: []Model{{Name: "m", Deadline: 1000, Variants: 1, Layers: []Layer{layer, layer, layer}}}}
	for _, c := range []struct {
		name  string
		spoil func(e *Engine)
		want  string
	}{
		{"two jobs on one accelerator", func(e *Engine) { e.state.Jobs[2].On = 0 }, "which runs"},
		{"a running job lost its accelerator", func(e *Engine) { e.state.Accelerators[0].Job = Idle }, "which runs 2"},
		{"an accelerator runs what is not on it", func(e *Engine) { e.state.Jobs[0].On = Idle }, "which is not on it"},
		{"a layer is skipped", func(e *Engine) { e.state.Jobs[2].Layer = 1 }, "out of order"},
		{"past the last layer", func(e *Engine) { e.state.Jobs[2].Layer = 3 }, "layer 3 of 3"},
		{"another order", func(e *Engine) { e.state.Jobs[2], e.state.Jobs[3] = e.state.Jobs[3], e.state.Jobs[2] },
			"order of arrival"},
		{"an invalid set", func(e *Engine) { e.state.Jobs[2].Used = 1 }, "not a valid set"},
		{"another deadline", func(e *Engine) { e.state.Jobs[2].Deadline++ }, "became"},
		{"a wrong count", func(e *Engine) { e.active[0]++ }, "counted"},
		{"another implementation", func(e *Engine) { e.state.Accelerators[0].Implementation = 2 }, "which layer 0"},
		{"an implementation that does not run there", func(e *Engine) { e.state.Accelerators[1].Implementation = 1 },
			"runs implementation 1"},
		{"moved without a completion", func(e *Engine) { e.state.Jobs[2].At = 1 }, "without a completion"},
	} {
		e := testkit.Must(New(Config{Tables: testkit.Must(Compile(system))(t), Policy: FCFS}))(t)
		for job := range int64(4) {
			e.Step(Event{Kind: Release, Job: job})
		}
		c.spoil(e)
		if got := recovered(func() { e.Step(Event{Kind: AcceleratorUp, At: 1}) }); !strings.Contains(got, "invariant") ||
			!strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func recovered(f func()) (what string) {
	defer func() { what = fmt.Sprint(recover()) }()
	f()
	return ""
}
