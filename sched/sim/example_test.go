package sim_test

import (
	"fmt"
	"log"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// One accelerator, one model of 5 ms, a second of requests at 120 % of what it can serve: those that are late are
// dropped.
func ExampleRun() {
	system := sched.System{Accelerators: []string{"npu"}, Models: []sched.Model{{
		Name: "camera", Deadline: 10 * time.Millisecond, Layers: []sched.Layer{{
			Name: "all", Implementations: []sched.Implementation{{Name: "original", Latency: []time.Duration{5 * time.Millisecond}}}}}}}}
	tables, err := sched.Compile(system)
	if err != nil {
		log.Fatal(err)
	}
	arrivals, err := (&traffic.Config{Rates: []float64{240}, Phases: traffic.AlignedPhases, Duration: time.Second}).Arrivals()
	if err != nil {
		log.Fatal(err)
	}
	var records eventlog.Buffer
	if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: sched.Config{Tables: tables, Policy: policy.Named("edf"),
		Drop: sched.DropHopeless, Recorder: &records}}); err != nil {
		log.Fatal(err)
	}
	m := (&eventlog.Log{Header: eventlog.Header{System: system, Rates: []float64{240}}, Records: records}).Metrics()
	fmt.Printf("%d released, %d met, %d dropped\n", m.Released, m.Met, m.Dropped)
	// Output:
	// 240 released, 201 met, 39 dropped
}
