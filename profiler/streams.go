package profiler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/runtime"
)

const (
	// pays is how many times as many requests twice as many streams have to get done for them to pay.
	pays = 1.15
	// streamsTime is about how long each number of streams is tried.
	streamsTime = 300 * time.Millisecond
	leastChains = 4
	// triesTime is how long loading models for a stream may take until no more are taken.
	triesTime    = 2 * time.Second
	mostChains   = 2000
	streamsLimit = 10 * time.Minute
)

// Streams finds out how many streams of a device pay, at most so many: it measures how many requests per second the
// task's models make, layer by layer, on 1, 2, 4 and 8 streams at once, and takes as many as bring at least 1.15 times
// what half of them do. The accelerator, by index, is the device as it stands in a configuration, not yet expanded to
// streams. The answer is at least 1; it is 1 together with every error.
func Streams(ctx context.Context, t Task, accelerator, most int, o Options) (int, error) {
	if !in(accelerator, len(t.Accelerators)) {
		return 1, fmt.Errorf("the task has no accelerator %d", accelerator)
	}
	if most < 2 {
		return 1, ctx.Err()
	}
	d := newDriver(&measurement{Task: t.withDefaults(), Options: o.withDefaults()}, accelerator)
	if err := d.connect(); err != nil {
		return 1, err
	}
	defer d.close()
	rates, err := d.rates(ctx, most)
	switch {
	case errors.As(err, new(lostError)):
		return 1, fmt.Errorf("accelerator %q: the process that tried its streams was lost: %w", t.Accelerators[accelerator].Name,
			err)
	case err != nil || ctx.Err() != nil:
		return 1, errors.Join(err, ctx.Err())
	}
	return bestStreams(rates), nil
}

// rates has the process measure how many requests per second 1, 2, 4 ... streams get done, at most so many.
func (d *driver) rates(ctx context.Context, most int) ([]float64, error) {
	const what = "trying streams"
	d.Progress(what, 0)
	a, err := d.call(ctx, request{Ask: askStreams, Streams: min(most, runtime.MaxStreams)}, streamsLimit,
		func(r reply) error {
			d.Progress(what, min(1, float64(len(r.Rates))/4))
			return nil
		})
	return a.Rates, err
}

// bestStreams is how many streams pay, by the rates of 1, 2, 4 ... of them.
func bestStreams(rates []float64) int {
	best := 1
	for n := 1; n < len(rates) && rates[n] >= pays*rates[n-1]; n++ {
		best = 1 << n
	}
	return best
}

// try measures how many requests per second 1, 2, 4 ... streams get done. It stops at what the device cannot hold.
func (s *server) try(most int) (reply, error) {
	s.close() // its only accelerator becomes the first stream
	defer s.close()
	specs := s.Accelerators[s.k].Streams(most)
	a := reply{Done: true}
	for n := 1; n <= len(specs) && !s.halt.Load(); n *= 2 {
		for len(s.streams) < n {
			if err := s.addStream(specs[len(s.streams)]); err != nil {
				if len(a.Rates) == 0 {
					return a, err
				}
				return a, nil
			}
		}
		if len(s.streams[0].chains) == 0 {
			break // no model runs there as a whole
		}
		rate, err := s.rate()
		if err != nil {
			return a, err
		}
		a.Rates = append(a.Rates, rate)
		if err := s.wire.write(reply{Rates: a.Rates}); err != nil {
			return a, err
		}
		if bestStreams(a.Rates) < n {
			break
		}
	}
	return a, nil
}

// addStream opens one more stream, with the chains of the models that run there, and warms it up alone: providers choose
// by what is fastest at that moment. The first stream tells how many models there are.
func (s *server) addStream(spec runtime.Spec) error {
	a, err := s.Open(spec)
	if err != nil {
		return err
	}
	x, err := newStream(a)
	if err != nil {
		a.Close()
		return err
	}
	s.streams = append(s.streams, x)
	begin := time.Now()
	for i, n := range s.Networks {
		if len(s.streams) == 1 && len(x.chains) > 0 && time.Since(begin) > triesTime {
			s.Networks = s.Networks[:i] // those tell enough
			break
		}
		m := &model{}
		s.models = append(s.models, m)
		if m.Program, err = runtime.Prepare(n, []runtime.Accelerator{a, &absent{anyOther}}, nil); err != nil {
			return err
		}
		if m.inputs, err = n.Inputs(s.Seed + uint64(i)); err != nil {
			return err
		}
		whole := true
		for l := range n.Layers {
			whole = whole && m.Runs(l, 0, 0)
		}
		if whole {
			slot, err := m.NewSlot()
			if err != nil {
				return err
			}
			x.chains = append(x.chains, chain{slot, m.inputs, len(n.Layers), 0})
		}
		if err := warmUp([]*stream{x}); err != nil {
			return err
		}
	}
	return nil
}

// rate is how many requests per second all streams together get done.
func (s *server) rate() (float64, error) {
	if s.chains == 0 {
		x := s.streams[0]
		alone := &together{}
		alone.begun.Add(1)
		alone.busy.Store(1)
		took, err := s.clocked(x, 2*len(x.chains), alone)
		if err != nil {
			return 0, err
		}
		s.chains = int(min(mostChains, max(leastChains, streamsTime*time.Duration(2*len(x.chains))/took)))
	}
	type result struct {
		took time.Duration
		err  error
	}
	all := &together{}
	all.begun.Add(len(s.streams))
	all.busy.Store(int64(len(s.streams)))
	results := make(chan result, len(s.streams))
	for _, x := range s.streams {
		go func() {
			took, err := s.clocked(x, s.chains, all)
			results <- result{took, err}
		}()
	}
	rate, err := 0.0, error(nil)
	for range s.streams {
		r := <-results
		err = errors.Join(err, r.err)
		rate += float64(s.chains) / r.took.Seconds()
	}
	return rate, err
}

// together has streams work at the same time: none is timed before all have begun, and those that are done go on until
// all are.
type together struct {
	begun sync.WaitGroup
	busy  atomic.Int64
}

// clocked is what so many chains take on a stream next to the others.
func (s *server) clocked(x *stream, chains int, all *together) (took time.Duration, err error) {
	begun, over := sync.OnceFunc(all.begun.Done), sync.OnceFunc(func() { all.busy.Add(-1) })
	err = x.do(func() error {
		defer over() // nobody waits for a stream that fails
		defer begun()
		p, err := newPacer(runtime.MemoryOf(x.accelerator))
		if err != nil {
			return err
		}
		defer p.close()
		if err := x.run(func(n int) bool { return n < len(x.chains) }, func() {}); err != nil {
			return err
		}
		begun()
		all.begun.Wait()
		begin := s.clock.time()
		if p != nil {
			if err := p.mark(0); err != nil {
				return err
			}
		}
		if err := x.run(func(n int) bool { return n < chains }, func() {}); err != nil {
			return err
		}
		if p == nil {
			took = s.clock.time().Sub(begin)
		} else if err := p.mark(1); err != nil {
			return err
		}
		over()
		if err := x.run(func(int) bool { return all.busy.Load() > 0 }, func() {}); err != nil {
			return err
		}
		if err := x.finish(); err != nil || p == nil {
			return err
		}
		took, err = p.span(0, 1)
		return err
	})
	return max(1, took), err
}
