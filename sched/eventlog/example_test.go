package eventlog_test

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// A simulation's records become a log; the log's metrics are what users see.
func ExampleLog_Metrics() {
	system := sched.System{Accelerators: []string{"cpu"}, Models: []sched.Model{{
		Name: "keywords", Deadline: 20 * time.Millisecond,
		Layers: []sched.Layer{{Name: "all", Implementations: []sched.Implementation{
			{Name: "original", Latency: []time.Duration{15 * time.Millisecond}}}}},
	}}}
	tables, err := sched.Compile(system)
	if err != nil {
		fmt.Println(err)
		return
	}
	var records eventlog.Buffer
	_, err = sim.Run(sim.Config{
		Engine: sched.Config{Tables: tables, Policy: sched.EDF, Drop: sched.DropLate, Recorder: &records},
		Arrivals: []traffic.Arrival{{At: 0}, {At: 5 * time.Millisecond}, {At: 6 * time.Millisecond},
			{At: 40 * time.Millisecond}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	log := eventlog.Log{Records: records, Header: eventlog.Header{Driver: eventlog.Simulated,
		Policy: "edf", Drop: "late", System: system, Rates: []float64{60}}}
	m := log.Metrics().Models[0]
	fmt.Printf("%d released: %d met, %d late, %d dropped; p50 %v ms, p99 %v ms\n", m.Released, m.Met, m.Late, m.Dropped,
		m.P50MS, m.P99MS)
	// Output:
	// 4 released: 2 met, 1 late, 1 dropped; p50 15 ms, p99 25 ms
}
