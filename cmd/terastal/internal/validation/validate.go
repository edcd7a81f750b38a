package validation

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// Input is a run and what predicts it.
type Input struct {
	Log *eventlog.Log
	// Path names the log in the result.
	Path string
	// Predictor says how long layers take.
	Predictor *Predictor
	// Jobs, if not nil, are somebody else's predictions of every job, in place of simulations.
	Jobs []JobPrediction
	// Draws is how many simulations predict; zero means DefaultDraws.
	Draws int
}

// DefaultDraws is how many simulations, with other draws of the durations, predict a run.
const DefaultDraws = 10

// unscheduled is how the policies of runs without a scheduler begin.
const unscheduled = "unscheduled"

// Comparable returns an error unless a log is of a run that can be validated: a real one, of a policy.
func Comparable(log *eventlog.Log) error {
	switch {
	case log.Header.Driver != eventlog.Real:
		return errors.New("the log is of a simulation: give a log of `terastal run`, which is held against the simulator")
	case strings.HasPrefix(log.Header.Policy, unscheduled):
		return errors.New("the run was unscheduled: its requests ran at once, each on its own thread, so that there are no " +
			"decisions to replay and nothing that predicts it; give the log of a policy")
	}
	return nil
}

// Validate holds a run against what predicts it.
func Validate(in Input) (*Validation, error) {
	log := in.Log
	if err := Comparable(log); err != nil {
		return nil, err
	}
	v := &Validation{Policy: log.Header.Policy, Log: in.Path, Predictor: in.Predictor.Name}
	var err error
	if v.Decisions, v.Difference, err = log.Replay(nil); err != nil {
		return nil, err
	}
	runs := layerRuns(log)
	v.compareLayers(in.Predictor, runs, &log.Header.System)
	v.Sources = dissect(in.Predictor, runs, log.Header.System.Accelerators)
	if in.Jobs != nil {
		err = v.compareGivenJobs(log, in.Jobs)
	} else {
		err = v.compareJobs(log, in.Predictor, runs, cmp.Or(in.Draws, DefaultDraws))
	}
	if err != nil {
		return nil, err
	}
	v.check()
	v.judge(log)
	return v, nil
}

// compareLayers fills in Layers and Cells.
func (v *Validation) compareLayers(p *Predictor, runs []layerRun, sys *sched.System) {
	cells := map[place][]pair{}
	var all []pair
	for i := range runs {
		r := &runs[i]
		x := pair{float64(p.of(r).total()) / 1e3, float64(r.occupied()) / 1e3}
		cells[r.place] = append(cells[r.place], x)
		all = append(all, x)
	}
	v.Layers = agree(all)
	for at, pairs := range cells {
		m := &sys.Models[at.model]
		l := &m.Layers[at.layer]
		c := Cell{Model: m.Name, Layer: l.Name, Implementation: l.Implementations[at.implementation].Name,
			Accelerator: sys.Accelerators[at.accelerator], Runs: len(pairs), Agreement: agree(pairs)}
		var predicted, measured []float64
		for _, x := range pairs {
			predicted, measured = append(predicted, x.predicted), append(measured, x.measured)
		}
		c.PredictedUS, c.MeasuredUS = median(predicted), median(measured)
		v.Cells = append(v.Cells, c)
	}
	slices.SortFunc(v.Cells, func(a, b Cell) int {
		weight := func(c Cell) float64 { return math.Abs(c.MeasuredUS-c.PredictedUS) * float64(c.Runs) }
		return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Layer, b.Layer),
			cmp.Compare(a.Implementation, b.Implementation), cmp.Compare(a.Accelerator, b.Accelerator))
	})
}

// compareJobs simulates the run and fills in Models and Accelerators.
func (v *Validation) compareJobs(log *eventlog.Log, p *Predictor, runs []layerRun, draws int) error {
	simulated, err := p.simulate(log, draws)
	if err != nil {
		return err
	}
	v.Draws = len(simulated)
	paced, err := p.atPace(runs).simulate(log, len(simulated))
	if err != nil {
		return err
	}
	real, byModel, given := endings(log), endingsByModel(simulated), endingsByModel(paced)
	for m := range real {
		sm := &log.Header.System.Models[m]
		o := predicted(given[m])
		v.Models = append(v.Models, Model{Model: sm.Name, Deadline: ms(sm.Deadline), Real: measured(real[m]),
			Predicted: predicted(byModel[m]), Given: &o, Jobs: matched(real[m], byModel[m])})
	}
	busy := log.Metrics().Utilization
	for _, name := range log.Header.System.Accelerators {
		a := Accelerator{Accelerator: name, Real: busy[name]}
		for _, s := range simulated {
			a.Predicted += s.Metrics().Utilization[name] / float64(len(simulated))
		}
		v.Accelerators = append(v.Accelerators, a)
	}
	return nil
}

// Limits that a good prediction stays within, and how many jobs it takes to say so: with 662, of which one may be
// above, a 99th percentile holds with 99 % confidence (MLPerf LoadGen).
const (
	limitP50  = 0.05
	limitP99  = 0.10
	limitMiss = 0.02
	LeastJobs = 662
	mostLag   = 0.25 // idle release lag, p99, over the shortest deadline
)

// check fills in Checks.
func (v *Validation) check() {
	for i := range v.Models {
		m := &v.Models[i]
		relative := func(predicted, real float64) float64 {
			if real <= 0 {
				return 0
			}
			return (predicted - real) / real
		}
		points := func(predicted, real float64) float64 { return predicted - real }
		for _, q := range []struct {
			what, unit string
			of         func(*Outcomes) float64
			off        func(predicted, real float64) float64
			limit      float64
		}{
			{"p50", "ms", func(o *Outcomes) float64 { return o.P50MS }, relative, limitP50},
			{"p99", "ms", func(o *Outcomes) float64 { return o.P99MS }, relative, limitP99},
			{"miss rate", "points", func(o *Outcomes) float64 { return o.MissRate }, points, limitMiss},
		} {
			c := Check{What: m.Model + " " + q.what, Unit: q.unit, Real: q.of(&m.Real), Predicted: q.of(&m.Predicted),
				Limit: q.limit}
			c.Off = q.off(c.Predicted, c.Real)
			c.OK = c.Holds(c.Off)
			if m.Given != nil {
				off := q.off(q.of(m.Given), c.Real)
				c.OffGiven = &off
			}
			v.Checks = append(v.Checks, c)
		}
	}
}

// judge says whether the run can support the checks.
func (v *Validation) judge(log *eventlog.Log) {
	shortest := time.Duration(math.MaxInt64)
	seconds := log.Header.Duration.Seconds()
	for i := range v.Models {
		m := &v.Models[i]
		shortest = min(shortest, log.Header.System.Models[i].Deadline)
		if n := m.Real.Met + m.Real.Late; n < LeastJobs {
			longer := ""
			if n > 0 && seconds > 0 {
				longer = fmt.Sprintf(": run with --duration %.0fs or more", math.Ceil(1.05*seconds*float64(LeastJobs)/float64(n)))
			}
			v.invalid("%d requests of %s finished, a 99th percentile needs %d%s", n, m.Model, LeastJobs, longer)
		}
		if m.Real.Failed > 0 {
			v.invalid("%d requests of %s failed, which no prediction knows of: run without faults", m.Real.Failed, m.Model)
		}
	}
	var lags []time.Duration
	releases := 0
	for i := range log.Records {
		switch log.Records[i].Kind {
		case sched.Released:
			releases++
		case sched.Down:
			v.invalid("an accelerator left service during the run: leave it out")
		case sched.Stopped:
			v.invalid("the run was stopped before its end: let it finish")
		}
	}
	for _, lag := range log.IdleLags() {
		lags = append(lags, lag)
	}
	lags = append(lags, make([]time.Duration, max(0, releases-len(lags)))...)
	if lag := stats.Quantile(stats.Sorted(lags), .99); float64(lag) > mostLag*float64(shortest) {
		v.invalid("releases went unnoticed for up to %.1f ms (p99) while an accelerator was idle, the shortest deadline is "+
			"%.1f ms: stop what else runs or leave a core free", ms(lag), ms(shortest))
	}
	v.Valid = len(v.Reasons) == 0
}

func (v *Validation) invalid(format string, args ...any) {
	if reason := fmt.Sprintf(format, args...); !slices.Contains(v.Reasons, reason) {
		v.Reasons = append(v.Reasons, reason)
	}
}
