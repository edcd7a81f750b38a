package session

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/internal/hostinfo"
	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// emulated is a task system on accelerators that take the time that a profile or a table says, and compute nothing.
type emulated struct {
	Machine
	session *Session
	source  string
	hollow  []*runtime.Network
}

// emulatedSpecs are the accelerators of a profile, emulated.
func emulatedSpecs(p *profiler.Profile, source string) []runtime.Spec {
	return mapped(p.Accelerators, func(s runtime.Spec) runtime.Spec {
		return runtime.Spec{Name: s.Name, Provider: runtime.EmulatedProvider, Of: s.Of, Stream: s.Stream,
			Options: map[string]string{optionTable: source}}
	})
}

// withoutLeads leaves out what only devices do that layers are submitted to.
func withoutLeads(s *sched.System) {
	s.Devices = slices.Clone(s.Devices)
	for i := range s.Devices {
		s.Devices[i].Lead, s.Devices[i].Waking = 0, nil
	}
}

// emulate makes what a session with these latencies runs on. Tensors take ONNX Runtime, not its providers.
func emulate(s *Session, source string) (*emulated, error) {
	if slices.Contains(s.Config.Policies, runtime.UnscheduledCPU) {
		return nil, Usagef("%s runs the models themselves on this processor, and there is nothing to run: leave it out",
			runtime.UnscheduledCPU)
	}
	e := &emulated{Machine: Machine{Host: hostinfo.Read(hostinfo.This()), Specs: emulatedSpecs(s.Profile, source)}, session: s,
		source: source}
	var err error
	if e.ORT, err = ort.Start(s.options.ORT); err != nil {
		return nil, err
	}
	sys := s.Plan.Tables.System()
	for m := range sys.Models {
		n, err := hollow(&sys.Models[m])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		e.hollow = append(e.hollow, n)
	}
	for m := range s.Config.Models { // there is nothing to give them to
		s.Config.Models[m].Inputs = ""
	}
	return e, nil
}

// describe says that what ran is not there.
func (e *emulated) describe() string {
	names := strings.Join(mapped(e.Specs, func(s runtime.Spec) string { return s.Name }), ", ")
	from := "as " + e.source + " says"
	if p := e.session.Profile; p.Host.CPU != "" {
		from = fmt.Sprintf("as was measured on %s with %d cores (%s): drawn from its distributions, longer while others are busy",
			p.Host.CPU, p.Host.LogicalCores, e.source)
	}
	return fmt.Sprintf("Emulated on %s, %d cores: %s take the time, %s. Nothing is computed, so that there are no outputs to "+
		"verify: that takes the accelerators and the model files.", e.Host.CPU, e.Host.LogicalCores, names, from)
}

// open makes the executor of hollow networks, which no file holds.
func (e *emulated) open(_ string, o runtime.OpenOptions) (*runtime.Executor, error) {
	sys := e.session.Plan.Tables.System()
	busy := newCrowd(e.session.Profile)
	var accelerators []runtime.Accelerator
	for k, s := range e.Specs {
		// Each has its own draws: the threads of accelerators share nothing.
		drawn, err := e.session.Profile.Durations(o.Seed<<8 + uint64(k))
		if err != nil {
			return nil, err
		}
		a, err := runtime.OpenEmulated(runtime.Emulation{Name: s.Name, Latency: unitLatency(sys, k),
			Takes: func(u runtime.Unit) func(in, out []*runtime.Tensor) time.Duration {
				d, _ := dispatched(sys, u) // or it has no latency
				d.Accelerator = k
				return func(in, out []*runtime.Tensor) time.Duration {
					d.From = from(d.Layer, in)
					leave(k, out)
					return busy.stretch(k, drawn(0, d))
				}
			}})
		if err != nil {
			return nil, err
		}
		accelerators = append(accelerators, a)
	}
	o.FreeCore = true // they sleep
	return runtime.Assemble(e.session.Plan.Tables, e.hollow, accelerators, o)
}

// The tensors of hollow networks hold no values, so that there is room for who wrote them: leave writes it, and from
// reads who ran the layer before.

func leave(accelerator int, out []*runtime.Tensor) {
	for _, t := range out {
		t.Data[0] = byte(accelerator)
	}
}

func from(layer int, in []*runtime.Tensor) int {
	if layer == 0 || len(in) == 0 {
		return sched.Idle
	}
	return int(in[0].Data[0])
}

// crowd knows until when each emulated accelerator is busy.
type crowd struct {
	begin     time.Time
	until     []atomic.Int64 // since begin, by accelerator
	slowdowns [][]float64    // nil where nobody slows anybody down
	groups    [][]float64    // contention of its device by accelerator; nil without
	of        []int          // device by accelerator, -1 without
}

func newCrowd(p *profiler.Profile) *crowd {
	n := len(p.Accelerators)
	c := &crowd{begin: time.Now(), until: make([]atomic.Int64, n), slowdowns: p.Slowdowns(), groups: make([][]float64, n),
		of: slices.Repeat([]int{-1}, n)}
	for i, x := range p.Contentions() {
		for _, k := range x.Accelerators {
			c.groups[k], c.of[k] = x.Slowdown, i
		}
	}
	return c
}

// stretch is how long a layer takes that begins now on an accelerator and would take so long alone: what others are
// doing at this moment counts for all of it.
func (c *crowd) stretch(k int, alone time.Duration) time.Duration {
	now := int64(time.Since(c.begin))
	factor, peers := 1.0, 0
	for o := range c.until {
		if o == k || c.until[o].Load() <= now {
			continue
		}
		if c.slowdowns != nil {
			factor += c.slowdowns[k][o]
		}
		if c.of[o] == c.of[k] && c.of[k] >= 0 {
			peers++
		}
	}
	if g := c.groups[k]; len(g) > 0 {
		factor += g[min(peers, len(g)-1)]
	}
	took := time.Duration(float64(alone) * factor)
	c.until[k].Store(now + int64(took))
	return took
}

// unitLatency is how long the units of a hollow network take on an accelerator. Their layers are named by index.
func unitLatency(s *sched.System, accelerator int) func(runtime.Unit) (time.Duration, bool) {
	return func(u runtime.Unit) (time.Duration, bool) {
		d, ok := dispatched(s, u)
		if !ok {
			return 0, false
		}
		latency := s.Models[d.Model].Layers[d.Layer].Implementations[d.Implementation].Latency[accelerator]
		return latency, latency != sched.Unavailable
	}
}

// dispatched is what a unit of a hollow network is of; false where it is of nothing in the system.
func dispatched(s *sched.System, u runtime.Unit) (d sched.Dispatch, ok bool) {
	d.Model = slices.IndexFunc(s.Models, func(m sched.Model) bool { return m.Name == u.Model })
	var err error
	d.Layer, err = strconv.Atoi(u.Layer)
	if d.Model < 0 || err != nil || d.Layer < 0 || d.Layer >= len(s.Models[d.Model].Layers) {
		return d, false
	}
	for i, im := range s.Models[d.Model].Layers[d.Layer].Implementations {
		if i == 0 && u.Implementation == runtime.Original || i > 0 && im.Name == u.Implementation {
			d.Implementation = i
			return d, true
		}
	}
	return d, false
}

// hollow is a network with as many layers and implementations as the model has, none of which is worth computing.
func hollow(m *sched.Model) (*runtime.Network, error) {
	tensor := func(n int) string { return "t" + strconv.Itoa(n) }
	info := func(n int) *pb.ValueInfoProto { return pb.NewValue(tensor(n), pb.TensorProto_FLOAT, 1) }
	n := len(m.Layers)
	g := &pb.GraphProto{Name: proto.String(m.Name), Input: []*pb.ValueInfoProto{info(0)},
		Output: []*pb.ValueInfoProto{info(n)}}
	var cuts []string
	for l := range n {
		cuts = append(cuts, tensor(l))
		g.Node = append(g.Node, pb.NewNode("Neg", []string{tensor(l)}, []string{tensor(l + 1)}).Named(strconv.Itoa(l)))
	}
	data, err := proto.Marshal(pb.NewModel(g, 17))
	if err != nil {
		return nil, err
	}
	model, err := models.Parse(m.Name, data, models.Options{})
	if err != nil {
		return nil, err
	}
	how := "model"
	if n > 1 {
		how = "cuts:" + strings.Join(cuts[1:], ",")
	}
	network, err := runtime.NewNetwork(m.Name, model, how)
	if err != nil {
		return nil, err
	}
	network.Variants = map[int][]runtime.Unit{}
	for i, l := range network.Layers {
		for _, im := range m.Layers[i].Implementations[1:] {
			data, err := l.ONNX()
			if err != nil {
				return nil, err
			}
			network.Variants[i] = append(network.Variants[i],
				runtime.Unit{Name: im.Name, ONNX: data, Inputs: l.Inputs, Outputs: l.Outputs})
		}
	}
	return network, nil
}
