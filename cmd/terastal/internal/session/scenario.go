package session

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/hostinfo"
	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/scenario"
)

// OpenScenario opens a published task system for running in real time: every accelerator is emulated and takes as long
// as the tables say, and the networks compute nothing. Rates and deadlines are the scenario's; the configuration says
// the rest.
func OpenScenario(c *config.Config, name string, o Options) (*Session, error) {
	s, err := scenario.Load(name)
	if err != nil {
		return nil, UsageError{err}
	}
	p := &published{Machine: Machine{Host: hostinfo.Read(hostinfo.This())}}
	if p.ORT, err = ort.Start(o.ORT); err != nil {
		return nil, err
	}
	profile, err := profiler.FromSystem(&s.System, profiler.TableOptions{Source: s.Name})
	if err != nil {
		return nil, err
	}
	p.Specs = mapped(s.System.Accelerators, func(name string) runtime.Spec {
		return runtime.Spec{Name: name, Provider: runtime.EmulatedProvider, Options: map[string]string{optionTable: s.Name}}
	})
	var documents []plan.Model
	for m := range s.System.Models {
		model := &s.System.Models[m]
		plan.Promise(model, c.PublishedFloor())
		documents = append(documents, plan.Model{Rate: s.Rates[m]})
		c.Models = append(c.Models, config.Model{Name: model.Name, Rate: s.Rates[m], Granularity: profiler.TableGranularity})
		n, err := hollow(model)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		p.hollow = append(p.hollow, n)
	}
	load, err := demand(s.System, documents, c.Traffic.Load, nil)
	if err != nil {
		return nil, err
	}
	planned, err := planAt(c.Traffic.Scale, load, s.System, documents, nil)
	if err != nil {
		return nil, err
	}
	p.tables = planned.Tables
	return &Session{Config: c, Profile: profile, Plan: planned, ground: p, options: o}, nil
}

// published is a task system on emulated accelerators.
type published struct {
	Machine
	tables *sched.Tables
	hollow []*runtime.Network
}

// open makes the executor of hollow networks, which no file holds.
func (p *published) open(_ string, o runtime.OpenOptions) (*runtime.Executor, error) {
	var accelerators []runtime.Accelerator
	for k, s := range p.Specs {
		a, err := s.Emulate(scenarioLatency(p.tables.System(), k), nil)
		if err != nil {
			return nil, err
		}
		accelerators = append(accelerators, a)
	}
	o.FreeCore = true // they sleep
	return runtime.Assemble(p.tables, p.hollow, accelerators, o)
}

// scenarioLatency is how long the units of a hollow network take on an accelerator. Its layers are named by index.
func scenarioLatency(s *sched.System, accelerator int) func(runtime.Unit) (time.Duration, bool) {
	return func(u runtime.Unit) (time.Duration, bool) {
		m := slices.IndexFunc(s.Models, func(m sched.Model) bool { return m.Name == u.Model })
		l, err := strconv.Atoi(u.Layer)
		if m < 0 || err != nil || l < 0 || l >= len(s.Models[m].Layers) {
			return 0, false
		}
		for i, im := range s.Models[m].Layers[l].Implementations {
			if i == 0 && u.Implementation == runtime.Original || i > 0 && im.Name == u.Implementation {
				return im.Latency[accelerator], im.Latency[accelerator] != sched.Unavailable
			}
		}
		return 0, false
	}
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
