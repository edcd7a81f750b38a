package flow

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
)

// Validation holds a real run against what the simulator predicts for the same
// arrivals, and against its own decisions replayed.
type Validation struct {
	Policy string `json:"policy"`
	// Decisions is how many recorded decisions were replayed through the
	// engine; Difference describes the first that came out otherwise.
	Decisions  int    `json:"decisions_replayed"`
	Difference string `json:"first_difference,omitempty"`
	// Layers compares each layer run with its predicted duration.
	Layers LayerErrors `json:"layers"`
	// Models compares job outcomes and response times.
	Models []ModelValidation `json:"models"`
}

// LayerErrors summarises measured over predicted durations of all layer runs.
type LayerErrors struct {
	Runs     int     `json:"runs"`
	MAPE     float64 `json:"mape"`      // mean absolute error as a share of the prediction
	Bias     float64 `json:"bias"`      // mean signed error, the same way
	Within5  float64 `json:"within_5"`  // share of runs within 5 % of the prediction
	Within10 float64 `json:"within_10"` // and within 10 %
	Worst    []Worst `json:"worst"`     // where the predictions are off most, by total time
}

// Worst is one layer on one accelerator.
type Worst struct {
	Model       string  `json:"model"`
	Layer       string  `json:"layer"`
	Accelerator string  `json:"accelerator"`
	Runs        int     `json:"runs"`
	PredictedUS float64 `json:"predicted_us"`
	MeasuredUS  float64 `json:"measured_us"` // median
}

// ModelValidation is one model, real and simulated.
type ModelValidation struct {
	Model     string                `json:"model"`
	Real      eventlog.ModelMetrics `json:"real"`
	Simulated eventlog.ModelMetrics `json:"simulated"`
}

// Validate replays the log's decisions and simulates its arrivals.
func Validate(log *eventlog.Log) (*Validation, error) {
	v := &Validation{Policy: log.Header.Policy}
	if log.Header.Driver != eventlog.Real {
		return nil, errors.New("the log is of a simulation: validate holds a real run against the simulator, give it a log of `terastal run`")
	}
	var err error
	if v.Decisions, v.Difference, err = log.Replay(); err != nil {
		return nil, err
	}
	v.Layers = layerErrors(log)
	simulated, err := resimulate(log)
	if err != nil {
		return nil, err
	}
	real, predicted := log.Metrics(), simulated.Metrics()
	for m := range real.Models {
		v.Models = append(v.Models, ModelValidation{real.Models[m].Model, real.Models[m], predicted.Models[m]})
	}
	return v, nil
}

// resimulate plays the log's scheduled releases on the simulator.
func resimulate(log *eventlog.Log) (*eventlog.Log, error) {
	var arrivals []sched.Arrival
	for i := range log.Records {
		// Those that the engine releases by itself it will release again.
		if r := &log.Records[i]; r.Kind == sched.Released && r.Job < sched.FirstOwnJob {
			arrivals = append(arrivals, sched.Arrival{At: r.Start, Model: int(r.Model)})
		}
	}
	slices.SortStableFunc(arrivals, func(a, b sched.Arrival) int { return cmp.Compare(a.At, b.At) })
	out := &eventlog.Log{Header: log.Header}
	out.Header.Driver = eventlog.Simulated
	var records eventlog.Buffer
	cfg, err := log.Header.Engine(&records)
	if err != nil {
		return nil, err
	}
	if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: cfg, Duration: sim.Exactly(cfg.Tables)}); err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	out.Records = records
	return out, nil
}

// worstShown is how many layers Worst names.
const worstShown = 10

func layerErrors(log *eventlog.Log) LayerErrors {
	type cell struct{ model, layer, impl, acc int32 }
	times := map[cell][]time.Duration{}
	var e LayerErrors
	sys := &log.Header.System
	predicted := func(c cell) time.Duration {
		return sys.Models[c.model].Layers[c.layer].Implementations[c.impl].Latency[c.acc]
	}
	for i := range log.Records {
		r := &log.Records[i]
		if r.Kind != sched.Completed {
			continue
		}
		c := cell{r.Model, r.Layer, r.Implementation, r.Accelerator}
		p := predicted(c)
		if p <= 0 {
			continue
		}
		times[c] = append(times[c], r.At-r.Start)
		off := float64(r.At-r.Start-p) / float64(p)
		e.Runs++
		e.MAPE += math.Abs(off)
		e.Bias += off
		if math.Abs(off) <= 0.05 {
			e.Within5++
		}
		if math.Abs(off) <= 0.10 {
			e.Within10++
		}
	}
	if e.Runs > 0 {
		n := float64(e.Runs)
		e.MAPE, e.Bias, e.Within5, e.Within10 = e.MAPE/n, e.Bias/n, e.Within5/n, e.Within10/n
	}
	for c, ts := range times {
		e.Worst = append(e.Worst, Worst{Model: sys.Models[c.model].Name, Layer: sys.Models[c.model].Layers[c.layer].Name, Accelerator: sys.Accelerators[c.acc],
			Runs: len(ts), PredictedUS: predicted(c).Seconds() * 1e6, MeasuredUS: stats.Quantile(stats.Sorted(ts), .5).Seconds() * 1e6})
	}
	slices.SortFunc(e.Worst, func(a, b Worst) int {
		weight := func(w Worst) float64 { return math.Abs(w.MeasuredUS-w.PredictedUS) * float64(w.Runs) }
		return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Accelerator, b.Accelerator))
	})
	e.Worst = e.Worst[:min(worstShown, len(e.Worst))]
	return e
}
