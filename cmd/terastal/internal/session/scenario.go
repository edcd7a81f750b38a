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

// OpenScenario opens a task system from tables for running in real time: every
// accelerator is emulated and takes as long as the tables say, and the networks
// compute nothing. Rates and deadlines are the scenario's; the configuration
// says the rest.
func OpenScenario(c *config.Config, s *scenario.Scenario, o Options) (*Flow, error) {
	f := &Flow{Config: c, Host: hostinfo.Read(hostinfo.This()), opts: o, Rates: slices.Clone(s.Rates)}
	if err := f.openScenario(s); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Flow) openScenario(s *scenario.Scenario) (err error) {
	if f.ORT, err = ort.Start(f.opts.ORT); err != nil {
		return err
	}
	if f.Profile, err = profiler.FromSystem(&s.System, profiler.TableOptions{Source: s.Name}); err != nil {
		return err
	}
	faults, err := f.Config.Drill()
	if err != nil {
		return err
	}
	f.drill = runtime.NewDrill(faults, f.Config.Traffic.Seed)
	for k, name := range s.System.Accelerators {
		f.Specs = append(f.Specs, runtime.Spec{Name: name, Provider: runtime.EmulatedProvider, Options: map[string]string{optionTable: s.Name}})
		a, err := runtime.OpenEmulated(runtime.Emulation{Name: name, Latency: scenarioLatency(&s.System, k)})
		if err != nil {
			return err
		}
		f.accs = append(f.accs, f.drill.Wrap(a))
	}
	runtime.RoomFor(len(f.accs))
	for m := range s.System.Models {
		model := &s.System.Models[m]
		f.Config.Models = append(f.Config.Models, config.Model{Name: model.Name, Rate: s.Rates[m], Granularity: profiler.TableGranularity})
		n, err := hollow(model)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		f.Networks = append(f.Networks, n)
		p, err := runtime.Prepare(n, f.accs, nil)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		f.programs = append(f.programs, p)
	}
	if err := f.demand(s.System); err != nil {
		return err
	}
	f.scale(f.Config.Traffic.Scale)
	var models []plan.Model
	for _, rate := range f.Rates {
		models = append(models, plan.Model{Rate: rate})
	}
	f.Planned, f.Tables, err = plan.New(s.System, models, nil)
	return err
}

// scenarioLatency is how long the units of a hollow network take on an
// accelerator. Its layers are named by index.
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

// hollow is a network with as many layers and implementations as the model has,
// none of which is worth computing.
func hollow(m *sched.Model) (*runtime.Network, error) {
	tensor := func(n int) string { return "t" + strconv.Itoa(n) }
	info := func(n int) *pb.ValueInfoProto {
		shape := &pb.TensorShapeProto{Dim: []*pb.TensorShapeProto_Dimension{{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: 1}}}}
		return &pb.ValueInfoProto{Name: proto.String(tensor(n)), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
			TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(int32(pb.TensorProto_FLOAT)), Shape: shape}}}}
	}
	n := len(m.Layers)
	g := &pb.GraphProto{Name: proto.String(m.Name), Input: []*pb.ValueInfoProto{info(0)}, Output: []*pb.ValueInfoProto{info(n)}}
	var cuts []string
	for l := range n {
		g.Node = append(g.Node, &pb.NodeProto{Name: proto.String(strconv.Itoa(l)), OpType: proto.String("Neg"), Input: []string{tensor(l)}, Output: []string{tensor(l + 1)}})
		if l > 0 {
			cuts = append(cuts, tensor(l))
		}
	}
	data, err := proto.Marshal(&pb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*pb.OperatorSetIdProto{{Version: proto.Int64(17)}}, Graph: g})
	if err != nil {
		return nil, err
	}
	model, err := models.Parse(m.Name, data, models.Options{})
	if err != nil {
		return nil, err
	}
	how := "model"
	if len(cuts) > 0 {
		how = "cuts:" + strings.Join(cuts, ",")
	}
	granularity, err := models.ParseGranularity(how)
	if err != nil {
		return nil, err
	}
	layers, err := model.Split(granularity)
	if err != nil {
		return nil, err
	}
	network := &runtime.Network{Name: m.Name, Model: model, Layers: layers, Variants: map[int][]runtime.Unit{}}
	for l := range m.Layers {
		for _, im := range m.Layers[l].Implementations[1:] {
			data, err := layers[l].ONNX()
			if err != nil {
				return nil, err
			}
			network.Variants[l] = append(network.Variants[l], runtime.Unit{Name: im.Name, ONNX: data, Inputs: layers[l].Inputs, Outputs: layers[l].Outputs})
		}
	}
	return network, nil
}
