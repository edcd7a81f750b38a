package sched_test

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// camera is a detector of two layers. The accelerator "npu" is made for the
// first; a variant of it is made for the "dsp".
var camera = sched.System{
	Accelerators: []string{"npu", "dsp"},
	Models: []sched.Model{{
		Name: "detector", Deadline: 12 * time.Millisecond,
		Variants: 1, Valid: []sched.VariantSet{0b1},
		Layers: []sched.Layer{
			{Name: "backbone", Implementations: []sched.Implementation{
				{Name: "original", Latency: []time.Duration{4 * time.Millisecond, 16 * time.Millisecond}},
				{Name: "d2s", Variant: 1, Latency: []time.Duration{4 * time.Millisecond, 6 * time.Millisecond}},
			}},
			{Name: "head", Implementations: []sched.Implementation{
				{Name: "original", Latency: []time.Duration{2 * time.Millisecond, 1 * time.Millisecond}},
			}},
		},
	}},
}

// The budgets of Algorithm 1: at level 2 the latencies of 4 and 1 ms fit the
// deadline of 12 ms.
func ExampleCompile() {
	tables, err := sched.Compile(camera)
	if err != nil {
		fmt.Println(err)
		return
	}
	b := tables.Budgets(0)
	fmt.Println("level", b.Level, "budgets", b.Layer)
	// Output:
	// level 2 budgets [9.6ms 2.4ms]
}

// An engine is driven by events: here two releases and a completion.
func ExampleEngine_Step() {
	tables, err := sched.Compile(camera)
	if err != nil {
		fmt.Println(err)
		return
	}
	engine, err := sched.New(sched.Config{Tables: tables, Policy: sched.Terastal})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, ev := range []sched.Event{
		{Kind: sched.Release, Job: 1},
		{Kind: sched.Release, Job: 2},
		{Kind: sched.Complete, At: 4 * time.Millisecond, Accelerator: 0},
	} {
		for _, d := range engine.Step(ev) {
			fmt.Printf("job %d layer %d implementation %d on %s until %v: %v\n",
				d.Job, d.Layer, d.Implementation, camera.Accelerators[d.Accelerator], d.Finish, d.Reason)
		}
	}
	// Output:
	// job 1 layer 0 implementation 0 on npu until 4ms: meets-budget
	// job 2 layer 0 implementation 1 on dsp until 6ms: variant-meets-budget
	// job 1 layer 1 implementation 0 on npu until 6ms: meets-budget
}

// printer is a Recorder that prints how jobs end.
type printer struct{}

func (printer) Record(r sched.Record) {
	if r.Kind == sched.Ended {
		fmt.Printf("job %d: %v after %v\n", r.Job, r.Outcome, r.At-r.Start)
	}
}

// Two requests at once are one too many for plain EDF, which takes the dsp for
// the second as it is; Terastal swaps in the variant.
func Example_simulate() {
	tables, err := sched.Compile(camera)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"edf", "terastal"} {
		fmt.Println(name)
		if _, err := sim.Run(sim.Config{
			Engine:   sched.Config{Tables: tables, Policy: policy.Named(name), Recorder: printer{}},
			Arrivals: []traffic.Arrival{{At: 0}, {At: 0}},
		}); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// edf
	// job 0: met after 6ms
	// job 1: late after 17ms
	// terastal
	// job 0: met after 6ms
	// job 1: met after 7ms
}
