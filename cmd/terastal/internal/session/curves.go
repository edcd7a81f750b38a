package session

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/traffic"
)

// CurveOptions say where miss-rate curves are looked at.
type CurveOptions struct {
	// Source names what is played, for the document.
	Source string
	// Scales are factors on all rates, in rising order; Resolution is how
	// closely the scale that a policy sustains is found between them.
	Scales     []float64
	Resolution float64
	// Limits are the mean miss rates up to which a policy sustains a scale.
	Limits []float64
	// Floors, if any, are accuracy floors that policies which spend accuracy are looked at with, in place of those of the
	// models; 0 is none. On hardware models have one floor.
	Floors []float64
	// Seeds is how many runs there are of each policy at each scale, all scales with the same seeds.
	Seeds int
}

// CurveSeeds is how many seeds curves have unless said otherwise.
func CurveSeeds(onHardware bool) int {
	if onHardware {
		return 3
	}
	return 8
}

// Announce says what curves on hardware will take, and how to cut it short.
func (o *CurveOptions) Announce(c *config.Config) string {
	runs := o.Seeds * len(o.Scales) * len(c.Policies)
	return fmt.Sprintf("%d runs of %v: %v in all, and some more to find what is sustained; an interrupt ends it with "+
		"the runs that there are", runs, c.Traffic.Duration, (time.Duration(runs) * c.Traffic.Duration).Round(time.Second))
}

// Check refuses options that nothing can be found with.
func (o *CurveOptions) Check(c *config.Config) error {
	if len(o.Scales) == 0 || o.Seeds < 1 || o.Seeds > MaxRepeats {
		return fmt.Errorf("%w: %d seeds at %d scales: need 1 to %d and at least one",
			config.ErrInvalid, o.Seeds, len(o.Scales), MaxRepeats)
	}
	bad := func(limit float64) bool { return !(limit > 0 && limit < 1) }
	if len(o.Limits) == 0 || slices.ContainsFunc(o.Limits, bad) || !(o.Resolution >= 1e-4) {
		return fmt.Errorf("%w: miss-rate limits of %v at a resolution of %v: there must be a limit, each above 0 and below 1, "+
			"and the resolution at least 0.0001", config.ErrInvalid, o.Limits, o.Resolution)
	}
	for _, f := range o.Floors {
		if err := study.CheckFloor(f); err != nil {
			return fmt.Errorf("%w: %w", config.ErrInvalid, err)
		}
	}
	if p := c.Traffic.Process(); p == traffic.Recorded || p == traffic.ClosedLoop {
		return fmt.Errorf("%w: arrivals %q have no rates that could be scaled", config.ErrInvalid, c.Traffic.Arrivals)
	}
	return nil
}

// Curves simulates the configuration at every scale, and between them where policies begin to miss more than the limit.
func (s *Session) Curves(ctx context.Context, o CurveOptions) (*comparison.Curves, error) {
	cell, so, err := s.study(StudyOptions{Seeds: o.Seeds})
	if err != nil {
		return nil, err
	}
	return simulatedCurves(ctx, s.Config, cell, so, s.Plan.Load, s.options.Progress, o)
}

// ScenarioCurves is [Session.Curves] for a published scenario under the traffic of the configuration.
func ScenarioCurves(ctx context.Context, name string, c *config.Config, progress func(string) Meter,
	o CurveOptions) (*comparison.Curves, error) {
	d, cell, so, err := ofScenario(name, c)
	if err != nil {
		return nil, err
	}
	so.Seeds = o.Seeds
	return simulatedCurves(ctx, c, cell, so, cell.Scale/d.Capacity.Scale, progress, o)
}

// simulatedCurves looks at scales by simulating; load is that at scale 1.
func simulatedCurves(ctx context.Context, c *config.Config, cell study.Cell, so study.Options, load float64,
	progress func(string) Meter, o CurveOptions) (*comparison.Curves, error) {
	curves := newCurves(eventlog.Simulated, c, &o)
	base, few := cell.Scale, fewest{}
	if len(o.Floors) > 0 {
		s := so.Systems[cell.Scenario]
		s.System = study.Floored(s.System, 0)
		so.Systems = map[string]scenario.Scenario{cell.Scenario: s}
	}
	err := curves.Find(o.Scales, o.Resolution, func(asks []comparison.Ask) ([]comparison.Point, error) {
		var cells []study.Cell
		for _, a := range asks {
			x := &curves.Curves[a.Curve]
			cell.Policy, cell.Scale, cell.Floor = x.Policy, base*a.Scale, 0
			if x.Floor != nil {
				cell.Floor = *x.Floor
			}
			cells = append(cells, cell)
		}
		meter := progress(fmt.Sprintf("simulating %d points", len(cells)))
		defer meter.Done()
		so.Progress = meter.Set
		results, err := study.Run(ctx, cells, so)
		if err != nil {
			return nil, err
		}
		var points []comparison.Point
		for i := range results {
			few.see(results[i].Models, asks[i].Scale)
			p := point(asks[i].Scale, load, results[i].BySeed)
			p.Accuracy = results[i].Accuracy
			points = append(points, p)
		}
		return points, nil
	})
	if err != nil {
		return nil, err
	}
	few.doubt(curves)
	return curves, writeCurves(c.Out, curves)
}

func newCurves(driver string, c *config.Config, o *CurveOptions) *comparison.Curves {
	curves := &comparison.Curves{Driver: driver, Source: o.Source, DurationS: c.Traffic.Duration.Seconds(),
		Limit: o.Limits[0], Further: o.Limits[1:]}
	curves.Lines(c.Policies, o.Floors, policy.Spends)
	return curves
}

// point is what the mean miss rates of some runs say about a scale.
func point(scale, load float64, misses []float64) comparison.Point {
	p := comparison.Point{Scale: scale, Load: load * scale, Runs: len(misses)}
	p.Miss, p.Low, p.High = study.Interval(misses)
	p.Low, p.High = max(0, p.Low), min(1, p.High)
	return p
}

// RealCurves plays the configuration on the real accelerators at every scale, and between them where policies begin to
// miss more than the limit. The prices and budgets that policies go by are those of the plan at scale 1. An interrupt
// ends it with the runs that there are.
func (s *Session) RealCurves(ctx context.Context, o CurveOptions, real Real) (*comparison.Curves, error) {
	h, err := s.onHardware(ctx, real)
	if err != nil {
		return nil, err
	}
	defer h.close()
	curves := newCurves(eventlog.Real, s.Config, &o)
	r := realPoints{stage: s.stage(h, eventlog.Real), curves: curves, seeds: o.Seeds, load: s.Plan.Load}
	err = curves.Find(o.Scales, o.Resolution, func(asks []comparison.Ask) ([]comparison.Point, error) {
		return r.play(ctx, asks)
	})
	if ctx.Err() != nil {
		r.doc.Doubt(result.Doubt{About: "interrupted", Text: "it was interrupted: points are missing or have fewer runs"})
	} else if err != nil {
		return nil, err
	}
	curves.Reasons = r.conclude().Reasons
	r.few.doubt(curves)
	return curves, writeCurves(s.Config.Out, curves)
}

// realPoints finds points of curves by playing.
type realPoints struct {
	*stage
	curves *comparison.Curves
	seeds  int
	load   float64 // at scale 1
	few    fewest
}

// play plays the points asked for. A point's runs lie apart, so that what disturbs the machine for a while does not
// fall on one. When it is interrupted it returns what there is so far.
func (r *realPoints) play(ctx context.Context, asks []comparison.Ask) ([]comparison.Point, error) {
	misses, counts := make([][]float64, len(asks)), make([][]eventlog.ModelMetrics, len(asks))
	var err error
play:
	for n := range r.seeds {
		for at, i := range turnOrder(len(asks), n, r.seed) {
			a := asks[i]
			policy := r.curves.Curves[a.Curve].Policy
			t := turn{policy: policy, scale: a.Scale, seed: r.seed + uint64(n), unlogged: true,
				title: fmt.Sprintf("%d of %d: %s at %g", n*len(asks)+at+1, r.seeds*len(asks), policy, a.Scale)}
			if err = ctx.Err(); err != nil {
				break play
			}
			played, interrupted, failed := r.turn(ctx, t)
			if failed != nil {
				return nil, failed
			}
			if interrupted {
				err = ctx.Err()
				break play
			}
			misses[i] = append(misses[i], played.MeanMissRate)
			counts[i] = addReleased(counts[i], played.Models)
		}
	}
	points := make([]comparison.Point, len(asks))
	for i, a := range asks {
		if len(misses[i]) > 0 {
			r.few.see(counts[i], a.Scale)
			points[i] = point(a.Scale, r.load, misses[i])
		}
	}
	return points, err
}

func addReleased(sum, models []eventlog.ModelMetrics) []eventlog.ModelMetrics {
	if sum == nil {
		return slices.Clone(models)
	}
	for m := range sum {
		sum[m].Released += models[m].Released
	}
	return sum
}

// fewest remembers where the fewest requests of a model were released.
type fewest struct {
	model    string
	scale    float64
	released int
	seen     bool
}

func (w *fewest) see(models []eventlog.ModelMetrics, scale float64) {
	for i := range models {
		if m := &models[i]; !w.seen || m.Released < w.released {
			*w = fewest{m.Model, scale, m.Released, true}
		}
	}
}

// curveConfidence is that with which a point without a miss has to show that the miss rate is within the limit.
const curveConfidence = 0.95

// doubt adds a reason where so few requests cannot show what the lowest limit asks.
func (w *fewest) doubt(c *comparison.Curves) {
	limit := slices.Min(c.Limits())
	if least := stats.MinJobs(1-limit, curveConfidence, 0); w.seen && w.released < least {
		c.Reasons = append(c.Reasons, fmt.Sprintf("%d requests of %s at scale %g cannot show a miss rate of %g %%: "+
			"that takes at least %d over all seeds: raise --duration or --seeds, or the --limit",
			w.released, w.model, w.scale, 100*limit, least))
	}
}

// Files of curves in the output folder.
const (
	CurvesFile = "curves.json"
	CurvesCSV  = "curves.csv"
)

// optional is a number for a CSV file, empty for nil.
func optional(x *float64) string {
	if x == nil {
		return ""
	}
	return strconv.FormatFloat(*x, 'g', 6, 64)
}

func writeCurves(out string, c *comparison.Curves) error {
	path := filepath.Join(out, CurvesFile)
	if err := document.Write(path, comparison.CurvesKind, comparison.CurvesVersion, c); err != nil {
		return err
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.Write([]string{"policy", "scale", "load", "mean_miss_rate", "low", "high", "runs",
		"accuracy_floor", "normalized_accuracy"}); err != nil {
		return err
	}
	for i := range c.Curves {
		for _, p := range c.Curves[i].Points {
			row := []string{c.Curves[i].Policy}
			for _, x := range []float64{p.Scale, p.Load, p.Miss, p.Low, p.High} {
				row = append(row, strconv.FormatFloat(x, 'g', 6, 64))
			}
			row = append(row, strconv.Itoa(p.Runs), optional(c.Curves[i].Floor), optional(p.Accuracy))
			if err := w.Write(row); err != nil {
				return err
			}
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return document.WriteFile(filepath.Join(out, CurvesCSV), b.Bytes())
}
