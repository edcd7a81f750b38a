package profiler

import (
	"context"
	"slices"
	"time"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// dispatch runs the models in the real executor, one request of each at a time, on this accelerator alone, and gives
// the times between a layer's end and the next one's start.
func (s *server) dispatch(length, lead time.Duration) (reply, error) {
	name := func(a runtime.Spec) string { return a.Name }
	system := sched.System{Accelerators: append(names(s.Accelerators, name), anyOther.Name)}
	if s.memory != nil {
		d := sched.Device{Name: s.Accelerators[s.k].OnDevice(), Accelerators: append([]int{s.k}, s.others...), Lead: lead}
		slices.Sort(d.Accelerators)
		system.Devices = []sched.Device{d}
	}
	var programs []*runtime.Program
	var rates []float64
	for i, m := range s.models {
		if m.chained == nil {
			continue
		}
		x := sched.Model{Name: m.Network.Name, Deadline: time.Second}
		for l := range m.Network.Layers {
			latency := slices.Repeat([]time.Duration{sched.Unavailable}, len(system.Accelerators))
			latency[s.k] = s.usual(place{Do: layerRun, Model: i, Layer: l})
			x.Layers = append(x.Layers, sched.Layer{Name: m.Network.Layers[l].Name,
				Implementations: []sched.Implementation{{Name: original, Latency: latency}}})
		}
		system.Models = append(system.Models, x)
		programs, rates = append(programs, m.Program), append(rates, 1)
	}
	a := reply{Done: true}
	if len(programs) == 0 {
		return a, nil
	}
	tables, err := sched.Compile(system)
	if err != nil {
		return a, err
	}
	ex, err := runtime.NewExecutor(tables, programs, s.Seed)
	if err != nil {
		return a, err
	}
	defer ex.Close(context.Background())
	work := traffic.Config{Rates: rates, Process: traffic.ClosedLoop, Duration: length, Seed: s.Seed}
	a.Times, err = gaps(ex, work, s.k)
	return a, err
}

// gaps plays the traffic on the real executor and lists the times between the end of a layer and the start of the next
// on one accelerator.
func gaps(ex *runtime.Executor, traffic traffic.Config, accelerator int) ([]time.Duration, error) {
	o := runtime.Options{Policy: "fcfs", Drop: sched.DropNone, Traffic: traffic, Log: true}
	r, err := ex.Run(context.Background(), o)
	if err != nil {
		return nil, err
	}
	var out []time.Duration
	before := time.Duration(-1)
	for i := range r.Log.Records {
		rec := &r.Log.Records[i]
		if rec.Kind != sched.Completed || int(rec.Accelerator) != accelerator {
			continue
		}
		if before >= 0 {
			out = append(out, max(1, rec.Start-before))
		}
		before = rec.At
	}
	return out[:min(len(out), maxSamples)], nil
}

// usual is what a layer took last: the executor warms layers up until they take that, and some memories go by it.
func (s *server) usual(p place) time.Duration {
	if took := s.took[p]; took > 0 {
		return took
	}
	return time.Millisecond
}
