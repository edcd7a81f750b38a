package design_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/variants/accuracy"
	"github.com/terastal/terastal/variants/design"
)

func TestMain(m *testing.M) { orttest.Main(m) }

// bench stands in for hardware: layers take 0.3 ms on the GPU, the first ones up
// to 1 ms on the CPU; variants take 0.25 ms. On hardware, both methods call
// profiler.Measure.
type bench struct{ network *runtime.Network }

func (b bench) Originals(ctx context.Context) (*profiler.Profile, *sched.Tables, error) {
	p, err := b.Measure(ctx, []*runtime.Network{b.network}, nil)
	if err != nil {
		return nil, nil, err
	}
	system, err := p.System([]time.Duration{6 * time.Millisecond}, profiler.P50) // by model: the deadline
	if err != nil {
		return nil, nil, err
	}
	tables, err := sched.Compile(system)
	return p, tables, err
}

func (b bench) Measure(_ context.Context, networks []*runtime.Network, _ design.Enough) (*profiler.Profile, error) {
	var table strings.Builder
	fmt.Fprintln(&table, "model,layer,implementation,accelerator,latency_us")
	for _, n := range networks {
		for l := range n.Layers {
			name := n.Name + "," + n.Layers[l].Name
			fmt.Fprintf(&table, "%s,original,gpu,300\n%[1]s,original,cpu,%d\n", name, max(300, 1000-200*l))
			for _, u := range n.Variants[l] {
				fmt.Fprintf(&table, "%s,%s,gpu,250\n%[1]s,%[2]s,cpu,250\n", name, u.Name)
			}
		}
	}
	return profiler.ReadTable(strings.NewReader(table.String()), profiler.TableOptions{})
}

// Design variants of a network that misses its budgets on one of two
// accelerators, prove them and write their files.
func ExampleDesigner_Design() {
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	_, err := runtime.Start("")
	must(err)
	onnx, err := zoo.Build("glyph_mobile", 0)
	must(err)
	model, err := models.Parse("glyphs", onnx, models.Options{})
	must(err)
	network, err := runtime.NewNetwork("glyphs", model, "op")
	must(err)

	data := func(source string, n int) design.Data {
		return design.Data{Source: source, Open: func() (accuracy.Data, error) {
			return dataset.Open(dataset.Spec{Source: source, Count: n}, model)
		}}
	}
	d := design.Designer{
		Models: []*design.Model{{Network: network, Theta: 0.9,
			Calibration: data("glyphs:calibration", 20), Labelled: data("glyphs:test", 40)}},
		Accelerators: []runtime.Spec{{Name: "gpu", Provider: "cuda"}, {Name: "cpu"}},
	}
	o := design.Options{Families: []string{"lowrank"}, Limits: design.Limits{MaxLoss: 0.05, Together: 0.1}}
	must(d.Design(context.Background(), bench{network}, o))
	folder, err := os.MkdirTemp("", "plan")
	must(err)
	defer os.RemoveAll(folder)
	must(d.Save(folder)) // next to the plan
	for _, v := range d.Documents(nil) {
		fmt.Printf("%s: %d of %d candidates in use, proven on %d inputs\n", v.Model, len(v.Chosen), len(v.Candidates),
			v.Requests)
		for _, x := range v.Chosen {
			fmt.Println(x.LayerName, x.Family, x.Parameters, x.Wanted, x.Alone >= 0.95)
		}
	}
	// Output:
	// glyphs: 3 of 14 candidates in use, proven on 40 inputs
	// stem lowrank rank 2 [cpu] true
	// block1/expand lowrank rank 8 [cpu] true
	// block1/project lowrank rank 16 [cpu] true
}
