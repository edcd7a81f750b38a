package validation

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

const us = time.Microsecond

// pairOfModels is two models on two accelerators with different tastes.
func pairOfModels() sched.System {
	layer := func(name string, x, y time.Duration) sched.Layer {
		free := []time.Duration{0, 0}
		return sched.Layer{Name: name, Implementations: []sched.Implementation{{Name: "original",
			Latency: []time.Duration{x, y}}},
			Handoff: [][]time.Duration{free, free}}
	}
	return sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{
		{Name: "a", Deadline: time.Second, Layers: []sched.Layer{layer("a0", 400*us, 700*us), layer("a1", 900*us, 500*us),
			layer("a2", 300*us, 300*us)}},
		{Name: "b", Deadline: time.Second, Layers: []sched.Layer{layer("b0", 800*us, 600*us), layer("b1", 450*us, 500*us)}},
	}}
}

// world is what the hardware does besides what is predicted.
type world struct {
	noise        float64
	durations    func(sim.Durations, *rand.Rand) sim.Durations
	interference [][]float64
	contention   []sim.Contention
	dispatch     time.Duration
	lag          time.Duration
}

// play makes the log of a real run of the system in a world.
func (w world) play(t interface{ Fatal(...any) }, sys sched.System, policy string, seed uint64) *eventlog.Log {
	traffic := traffic.Config{Rates: []float64{350, 300}, Process: traffic.Poisson, Duration: 4 * time.Second, Seed: seed}
	arrivals, err := traffic.Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	log := &eventlog.Log{Header: eventlog.Header{Driver: eventlog.Real, Policy: policy, Drop: "none", Queue: 1000,
		Seed: seed, System: sys, Rates: traffic.Rates, Duration: traffic.Duration}}
	var records eventlog.Buffer
	engine, err := log.Header.Engine(&records, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := sim.Exactly(engine.Tables)
	if w.noise > 0 {
		d = sim.Lognormal(w.noise, engine.Tables, seed)
	}
	if w.durations != nil {
		d = w.durations(d, rand.New(rand.NewPCG(seed, 1)))
	}
	if _, err := sim.Run(sim.Config{Engine: engine, Arrivals: arrivals, Duration: sim.Delayed(d, w.dispatch),
		Interference: w.interference, Contention: w.contention}); err != nil {
		t.Fatal(err)
	}
	for i := range records {
		switch r := &records[i]; r.Kind {
		case sched.Completed:
			r.Start = min(r.Start+w.dispatch, r.At)
		case sched.Released, sched.Ended:
			r.Start, r.Until = r.Start-min(w.lag, r.Start), r.Until-min(w.lag, r.Start)
		}
	}
	log.Records = records
	return log
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// planted are worlds in which one source disagrees with the prediction.
func planted(r *rand.Rand) map[string]world {
	strength := 1 + r.Float64()
	type factor func(d sched.Dispatch, at time.Duration, r *rand.Rand) float64
	scale := func(f factor) func(sim.Durations, *rand.Rand) sim.Durations {
		return func(of sim.Durations, r *rand.Rand) sim.Durations {
			return func(at time.Duration, d sched.Dispatch) time.Duration {
				return time.Duration(float64(of(at, d)) * f(d, at, r))
			}
		}
	}
	return map[string]world{
		Interference: {noise: .02, interference: [][]float64{{0, .25 * strength}, {.25 * strength, 0}}},
		DispatchCost: {noise: .02, dispatch: time.Duration(60 * strength * float64(us))},
		ReleaseLag:   {noise: .02, lag: time.Duration(300 * strength * float64(us))},
		Noise:        {noise: .1 * strength},
		Drift: {noise: .02, durations: scale(func(_ sched.Dispatch, at time.Duration, _ *rand.Rand) float64 {
			return 1 + .15*strength*math.Sin(2*math.Pi*at.Seconds()/1.5)
		})},
		Outliers: {noise: .02, durations: scale(func(_ sched.Dispatch, _ time.Duration, r *rand.Rand) float64 {
			if r.Float64() < .04 {
				return 1 + 3*strength
			}
			return 1
		})},
		Bias: {noise: .02, durations: scale(func(d sched.Dispatch, _ time.Duration, _ *rand.Rand) float64 {
			return 1 + .12*strength*float64(1-2*((d.Model+d.Layer+d.Accelerator)%2))
		})},
		HandoffCost: {noise: .02, durations: func(of sim.Durations, _ *rand.Rand) sim.Durations {
			return func(at time.Duration, d sched.Dispatch) time.Duration {
				took := of(at, d)
				if d.From >= 0 && d.From != d.Accelerator {
					took += time.Duration(150 * strength * float64(us))
				}
				return took
			}
		}},
	}
}

// TestPlantedSources: whatever one source is planted is named first, with most
// of the share, and the parts add up to the errors.
func TestPlantedSources(t *testing.T) {
	sequential.Skip(t)
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		name := rapid.SampledFrom(sourceNames[:]).Draw(t, "source")
		w := planted(newRand(seed))[name]
		log := w.play(t, pairOfModels(), "fcfs", seed)
		p := FromSystem(&log.Header.System)
		runs := layerRuns(log)
		sources := dissect(p, runs, log.Header.System.Accelerators)
		if sources[0].Name != name || sources[0].Share < 0.5 {
			text := ""
			for _, s := range sources {
				text += fmt.Sprintf("\n%s %.2f %+.1f us: %s", s.Name, s.Share, s.MeanUS, s.What)
			}
			t.Fatalf("planted %s, found%s", name, text)
		}
		var share, mean, want float64
		for _, s := range sources {
			share, mean = share+s.Share, mean+s.MeanUS
		}
		for i := range runs {
			want += float64(runs[i].occupied()+runs[i].lag-p.of(&runs[i]).total()) / 1e3 / float64(len(runs))
		}
		if math.Abs(share-1) > 1e-9 || math.Abs(mean-want) > 1e-6*(1+math.Abs(want)) {
			t.Fatalf("shares add up to %v, means to %v us of %v us", share, mean, want)
		}
	})
}

// TestPerfectPrediction: a world that is as predicted agrees in everything.
func TestPerfectPrediction(t *testing.T) {
	for _, policy := range []string{"fcfs", "edf", "terastal"} {
		log := world{}.play(t, pairOfModels(), policy, 7)
		v := testkit.Must(Validate(Input{Log: log, Path: "x", Predictor: FromSystem(&log.Header.System)}))(t)
		if v.Difference != "" || !v.Valid || v.Layers.MAPE != 0 || v.Layers.Within5 != 1 || v.Draws != 1 {
			t.Errorf("%s: difference %q, reasons %q, layers %+v", policy, v.Difference, v.Reasons, v.Layers)
		}
		for _, c := range v.Checks {
			if !c.OK || c.Off != 0 {
				t.Errorf("%s: %+v", policy, c)
			}
		}
		for _, m := range v.Models {
			if m.Jobs.N != m.Real.Released || m.Jobs.MAPE != 0 || len(m.Real.Quantiles) != 99 {
				t.Errorf("%s: %+v", policy, m.Jobs)
			}
		}
		for _, a := range v.Accelerators {
			if a.Real != a.Predicted || a.Real == 0 {
				t.Errorf("%s: %+v", policy, a)
			}
		}
	}
}

// onStreams is the pair of models on two streams of a device that has to wake, with a third for the first.
func onStreams() sched.System {
	sys := pairOfModels()
	sys.Accelerators = []string{"gpu.0", "cpu", "gpu.1"}
	for m := range sys.Models {
		for l := range sys.Models[m].Layers {
			layer := &sys.Models[m].Layers[l]
			x := layer.Implementations[0].Latency
			layer.Implementations[0].Latency, layer.Handoff = []time.Duration{x[0], x[1], x[0]}, nil
		}
	}
	sys.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{0, 2}, Lead: 50 * us,
		Waking: []sched.Waking{{Idle: 200 * us, Extra: 40 * us}, {Idle: 2 * time.Millisecond, Extra: 90 * us}}}}
	return sys
}

// TestStreams: what waking a device and its busy streams cost is predicted as it is measured, also of layers that were
// decided ahead; without it the prediction is off.
func TestStreams(t *testing.T) {
	for _, policy := range []string{"fcfs", "terastal", "pedf"} {
		w := world{contention: []sim.Contention{{Accelerators: []int{0, 2}, Slowdown: []float64{0, 0.4}}}}
		log := w.play(t, onStreams(), policy, 7)
		ahead, woken := 0, 0
		for _, run := range log.Runs() {
			if run.Begin > run.Dispatched.At {
				ahead++
			}
		}
		for _, r := range layerRuns(log) {
			if r.rested > 200*us {
				woken++
			}
		}
		if ahead < 100 || woken < 100 {
			t.Errorf("%s: %d layers were decided ahead, %d woke the device", policy, ahead, woken)
		}
		p := FromSystem(&log.Header.System)
		p.crowd = w.contention
		v := testkit.Must(Validate(Input{Log: log, Predictor: p}))(t)
		if v.Difference != "" || v.Layers.MAPE > 1e-5 || v.Layers.Within5 != 1 {
			t.Errorf("%s: difference %q, layers %+v", policy, v.Difference, v.Layers)
		}
		for _, c := range v.Checks {
			if !c.OK || math.Abs(c.Off) > 1e-3 {
				t.Errorf("%s: %+v", policy, c)
			}
		}
		p.devices, p.crowd = nil, nil
		if v = testkit.Must(Validate(Input{Log: log, Predictor: p}))(t); v.Layers.MAPE < 0.05 {
			t.Errorf("%s: nothing of it is predicted, but layers are: %+v", policy, v.Layers)
		}
	}
}

// TestWrongPrediction: layers that take twice as long fail the checks, and the
// decisions are the recorded ones all the same.
func TestWrongPrediction(t *testing.T) {
	w := world{durations: func(of sim.Durations, _ *rand.Rand) sim.Durations {
		return func(at time.Duration, d sched.Dispatch) time.Duration { return 2 * of(at, d) }
	}}
	log := w.play(t, pairOfModels(), "fcfs", 7)
	v := testkit.Must(Validate(Input{Log: log, Predictor: FromSystem(&log.Header.System)}))(t)
	if v.Difference != "" || math.Abs(v.Layers.MAPE-0.5) > 1e-9 || math.Abs(v.Layers.Bias-0.5) > 1e-9 ||
		v.Layers.Within10 != 0 {
		t.Errorf("difference %q, layers %+v", v.Difference, v.Layers)
	}
	if v.Sources[0].Name != Bias || v.Sources[0].Share < 0.99 {
		t.Errorf("sources %+v", v.Sources[0])
	}
	if v.Checks[0].OK || v.Checks[0].What != "a p50" || v.Checks[0].Off > -0.4 {
		t.Errorf("check %+v", v.Checks[0])
	}
}

// TestShortRun: too few jobs for a 99th percentile is INVALID, with what to do.
func TestShortRun(t *testing.T) {
	log := world{}.play(t, pairOfModels(), "fcfs", 7)
	log.Records = firstJobs(log, 100)
	v := testkit.Must(Validate(Input{Log: log, Predictor: FromSystem(&log.Header.System)}))(t)
	if v.Valid || len(v.Reasons) != 2 {
		t.Errorf("valid %v, reasons %q", v.Valid, v.Reasons)
	}
}

// firstJobs are the records of the jobs released first; they stay a log, if not one that replays.
func firstJobs(log *eventlog.Log, n int64) (out []eventlog.Record) {
	for _, r := range log.Records {
		if r.Job < n {
			out = append(out, r)
		}
	}
	return out
}
