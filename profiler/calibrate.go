package profiler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// Brief is what a short measurement found about an accelerator.
type Brief struct {
	// Latency is the lower quartile of the times of every layer's original, by model and layer: what it takes unless
	// something gets in its way, which a measurement as short as this cannot average over. It is [sched.Unavailable] where
	// the layer does not run.
	Latency [][]time.Duration `json:"latency_ns,omitempty"`
	// Rates are how many requests per second 1, 2, 4 ... streams of a device get done; nil where it has one.
	Rates []float64 `json:"rates,omitempty"`
	// Failed says why the accelerator cannot be used.
	Failed string `json:"failed,omitempty"`
}

// leastBrief is how many rounds a calibration makes at least.
const leastBrief = 3

// Calibrate times the originals of the task's layers on accelerators that all work at the same time, for the budget of
// the options or three rounds, whichever takes longer: enough to choose accelerators by, far from a profile. Of devices
// it also tries 1, 2, 4 ... streams, at most so many. An accelerator that does not work is no error: its Brief says why.
func Calibrate(ctx context.Context, t Task, most int, o Options) ([]Brief, error) {
	o = o.withDefaults()
	t.Networks = originals(t.Networks)
	m := &measurement{Task: t.withDefaults(), Options: o}
	m.Progress = func(string, float64) {}
	for k := range t.Accelerators {
		m.drivers = append(m.drivers, newDriver(m, k))
	}
	defer m.close()
	out := make([]Brief, len(m.drivers))
	m.those(out, func(d *driver) error {
		for i := range d.Networks { // the whole models would take as long to load as all layers
			d.dead[place{Do: wholeRun, Model: i}] = "not asked"
		}
		return d.start(ctx)
	})
	var lacking atomic.Int64 // accelerators that need more rounds
	for k := range out {
		lacking.Add(int64(count(out[k].Failed == "")))
	}
	begin := time.Now()
	m.those(out, func(d *driver) error {
		enough := sync.OnceFunc(func() { lacking.Add(-1) })
		defer enough()
		for failed := 0; time.Since(begin) < o.Budget || lacking.Load() > 0; {
			before := d.rounds
			if err := d.round(ctx, func(p place) bool { return p.Do == layerRun }, company{}); err != nil {
				return err
			}
			if d.rounds == before && !d.fresh {
				failed++
			}
			if d.rounds >= leastBrief || failed > attempts {
				enough()
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			o.Progress("", min(1, time.Since(begin).Seconds()/o.Budget.Seconds()))
		}
		return nil
	})
	m.those(out, func(d *driver) (err error) {
		if d.conn == nil || !t.Accelerators[d.k].HasStreams() || most < 2 {
			return nil
		}
		out[d.k].Rates, err = d.rates(ctx, most)
		if errors.As(err, new(lostError)) {
			return nil // it has one stream
		}
		return err
	})
	for k, d := range m.drivers {
		out[k].Latency = d.brief()
	}
	return out, ctx.Err()
}

// those does something with all accelerators at once that have not failed.
func (m *measurement) those(out []Brief, do func(*driver) error) {
	m.each(func(d *driver) error {
		if b := &out[d.k]; b.Failed == "" {
			if err := do(d); err != nil {
				b.Failed = err.Error()
			}
		}
		return nil
	})
}

// originals are networks without their variants.
func originals(networks []*runtime.Network) []*runtime.Network {
	out := make([]*runtime.Network, len(networks))
	for i, n := range networks {
		plain := *n
		plain.Variants = nil
		out[i] = &plain
	}
	return out
}

// brief are the times of the layers.
func (d *driver) brief() [][]time.Duration {
	out := make([][]time.Duration, len(d.Networks))
	for m, n := range d.Networks {
		for l := range n.Layers {
			took := time.Duration(sched.Unavailable)
			if times := d.solo[place{Do: layerRun, Model: m, Layer: l}]; len(times) > 0 {
				took = stats.Quantile(stats.Sorted(times), 0.25)
			}
			out[m] = append(out[m], took)
		}
	}
	return out
}

// Streams is how many streams of the device pay; at least 1.
func (b *Brief) Streams() int { return bestStreams(b.Rates) }

// Check says what is wrong with a Brief, read from somewhere, of models with so many layers.
func (b *Brief) Check(layers []int) error {
	if b.Failed != "" {
		return nil
	}
	if len(b.Latency) != len(layers) {
		return fmt.Errorf("%d models, expected %d", len(b.Latency), len(layers))
	}
	for m := range layers {
		if len(b.Latency[m]) != layers[m] {
			return fmt.Errorf("model %d has %d layers, expected %d", m, len(b.Latency[m]), layers[m])
		}
		for _, took := range b.Latency[m] {
			if took <= 0 && took != sched.Unavailable {
				return fmt.Errorf("a layer of model %d takes %v", m, took)
			}
		}
	}
	for _, r := range b.Rates {
		if !(r > 0) {
			return fmt.Errorf("%v requests per second, must be positive", r)
		}
	}
	return nil
}
