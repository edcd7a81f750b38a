package validation

import (
	"cmp"
	"fmt"
	goruntime "runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// replayed are the scheduled releases of a log, in order; those that the engine
// made by itself it will make again. Jobs are the log's names of them.
func replayed(log *eventlog.Log) (arrivals []traffic.Arrival, jobs []int64) {
	var releases []*eventlog.Record
	for i := range log.Records {
		if r := &log.Records[i]; r.Kind == sched.Released && r.Job < sched.FirstOwnJob {
			releases = append(releases, r)
		}
	}
	slices.SortStableFunc(releases, func(a, b *eventlog.Record) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Job, b.Job))
	})
	for _, r := range releases {
		arrivals, jobs = append(arrivals, traffic.Arrival{At: r.Start, Model: int(r.Model)}), append(jobs, r.Job)
	}
	return arrivals, jobs
}

// searchTime is the median time of the run's searches while the engine went on;
// zero where it had none. How long a search takes is no property of a profile.
func searchTime(log *eventlog.Log) time.Duration {
	if !log.Header.SearchDetached {
		return 0
	}
	var took []time.Duration
	for i := range log.Records {
		if r := &log.Records[i]; r.Kind == sched.RuleFound {
			took = append(took, r.At-r.Start)
		}
	}
	slices.Sort(took)
	return max(1, stats.Quantile(took, .5))
}

// draws simulates the arrivals of a log so many times, with seeds from 1 on. The jobs of the simulated logs are those
// of the log, those that engines released by themselves excepted.
func (p *Predictor) simulate(log *eventlog.Log, draws int) ([]*eventlog.Log, error) {
	if p.draws == nil && len(log.Header.Taken) == 0 {
		draws = 1
	}
	out := make([]*eventlog.Log, draws)
	arrivals, jobs := replayed(log)
	var g errgroup.Group
	g.SetLimit(goruntime.GOMAXPROCS(0))
	for i := range out {
		g.Go(func() (err error) {
			out[i], err = p.draw(log, arrivals, jobs, uint64(i+1))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	return out, nil
}

func (p *Predictor) draw(log *eventlog.Log, arrivals []traffic.Arrival, jobs []int64, seed uint64) (*eventlog.Log,
	error) {
	var records eventlog.Buffer
	engine, err := log.Header.Engine(&records, nil)
	if err != nil {
		return nil, err
	}
	c := sim.Config{Arrivals: arrivals, Engine: engine, Duration: p.fixed, Interference: p.slow, Contention: p.crowd,
		SearchTime: searchTime(log)}
	if p.draws != nil {
		if c.Duration, err = p.draws(seed); err != nil {
			return nil, err
		}
	}
	if !p.paced {
		c.Duration = sim.Straggling(c.Duration, log.Header.Taken, seed)
	}
	if _, err := sim.Run(c); err != nil {
		return nil, err
	}
	for i := range records {
		if j := records[i].Job; j < int64(len(jobs)) && j >= 0 && records[i].Kind != sched.RuleFound {
			records[i].Job = jobs[j]
		}
	}
	header := log.Header
	header.Driver = eventlog.Simulated
	return &eventlog.Log{Header: header, Records: records}, nil
}

// fixed is how long a layer takes where there are no distributions.
func (p *Predictor) fixed(_ time.Duration, d sched.Dispatch) time.Duration {
	r := layerRun{place: place{int32(d.Model), int32(d.Layer), int32(d.Implementation), int32(d.Accelerator)},
		from: int32(d.From)}
	return p.of(&r).total()
}
