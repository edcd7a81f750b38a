package runtime_test

import (
	"context"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

func TestMain(m *testing.M) { orttest.Main(m) }

// From a model to a run of real traffic under the Terastal policy.
func Example() {
	if _, err := runtime.Start(""); err != nil {
		log.Fatal(err)
	}
	data, err := zoo.Build("ds_cnn_kws", 1) // or models.Load("net.onnx", ...)
	if err != nil {
		log.Fatal(err)
	}
	model, err := models.Parse("kws", data, models.Options{})
	if err != nil {
		log.Fatal(err)
	}
	blocks, err := models.ParseGranularity("block")
	if err != nil {
		log.Fatal(err)
	}
	layers, err := model.Split(blocks)
	if err != nil {
		log.Fatal(err)
	}

	specs := []runtime.Spec{{Name: "all"}, {Name: "basic", Optimization: "basic"}}
	var accs []runtime.Accelerator
	for _, s := range specs {
		a, err := runtime.OpenORT(s)
		if err != nil {
			log.Fatal(err)
		}
		defer a.Close()
		accs = append(accs, a)
	}
	network := &runtime.Network{Name: "kws", Model: model, Layers: layers}
	program, err := runtime.Prepare(network, accs, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()

	ctx := context.Background()
	task := profiler.Task{Accelerators: specs, Networks: []*runtime.Network{network}}
	profile, err := profiler.Measure(ctx, task, profiler.Options{Budget: 50 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	system, err := profile.System([]time.Duration{time.Second}, profiler.P50) // one deadline per model
	if err != nil {
		log.Fatal(err)
	}
	tables, err := sched.Compile(system)
	if err != nil {
		log.Fatal(err)
	}
	executor, err := runtime.NewExecutor(tables, accs, []*runtime.Program{program}, 1)
	if err != nil {
		log.Fatal(err)
	}
	defer executor.Close()
	result, err := executor.Run(ctx, runtime.Options{
		Policy:  "terastal",
		Traffic: traffic.Config{Rates: []float64{100}, Phases: traffic.AlignedPhases, Duration: 100 * time.Millisecond},
		Samples: 3,
	})
	if err != nil {
		log.Fatal(err)
	}
	v, err := executor.Verify(result.Samples)
	if err != nil {
		log.Fatal(err)
	}
	m := result.Log.Metrics()
	fmt.Printf("released %d, met %d, outputs verified %d\n", m.Released, m.Met, v.Verified)
	// Output: released 10, met 10, outputs verified 3
}

// A server takes requests as they come and answers with outputs and outcome.
func ExampleExecutor_Serve() {
	executor, model, closeAll := loaded() // as in the package's example
	defer closeAll()
	server, err := executor.Serve(runtime.Options{Policy: "terastal", Drop: sched.DropLate, Queue: 16})
	if err != nil {
		log.Fatal(err)
	}
	input, err := runtime.NewTensor(model.Inputs()[0], make([]byte, model.Inputs()[0].Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	defer input.Close()
	ctx := context.Background()
	for range 3 {
		pending, err := server.Submit(runtime.Request{Model: 0, Inputs: []*runtime.Tensor{input}, Deadline: time.Second})
		if err != nil {
			log.Fatal(err)
		}
		r, err := pending.Wait(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Outcome, r.Outputs[0].Name, r.Outputs[0].Shape)
		r.Outputs[0].Close()
	}
	result := server.Close(ctx)
	fmt.Println(result.Stats.Models[0].Met, "of", result.Stats.Models[0].Released)
	// Output:
	// met output [1 12]
	// met output [1 12]
	// met output [1 12]
	// 3 of 3
}

// loaded is an executor with one model on one accelerator and a plan with
// made-up latencies; plan.Read brings a measured one.
func loaded() (*runtime.Executor, *models.Model, func()) {
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	_, err := runtime.Start("")
	must(err)
	data, err := zoo.Build("ds_cnn_kws", 1)
	must(err)
	model, err := models.Parse("kws", data, models.Options{})
	must(err)
	g, err := models.ParseGranularity("model")
	must(err)
	layers, err := model.Split(g)
	must(err)
	cpu, err := runtime.OpenORT(runtime.Spec{Name: "cpu"})
	must(err)
	program, err := runtime.Prepare(&runtime.Network{Name: "kws", Model: model, Layers: layers}, []runtime.Accelerator{cpu}, nil)
	must(err)
	tables, err := sched.Compile(sched.System{Accelerators: []string{"cpu"}, Models: []sched.Model{{Name: "kws", Deadline: time.Second,
		Layers: []sched.Layer{{Name: "all", Implementations: []sched.Implementation{{Name: "original", Latency: []time.Duration{time.Millisecond}}}}}}}})
	must(err)
	executor, err := runtime.NewExecutor(tables, []runtime.Accelerator{cpu}, []*runtime.Program{program}, 1)
	must(err)
	return executor, model, func() {
		executor.Close()
		program.Close()
		cpu.Close()
	}
}

// An accelerator that is not here: its layers take as long as a function says,
// and the CPU computes their values.
func ExampleOpenEmulated() {
	if _, err := runtime.Start(""); err != nil {
		log.Fatal(err)
	}
	cpu, err := runtime.OpenORT(runtime.Spec{Name: "values"})
	if err != nil {
		log.Fatal(err)
	}
	array, err := runtime.OpenEmulated(runtime.Emulation{
		Name:  "weight-stationary",
		Inner: cpu,
		Latency: func(u runtime.Unit) (time.Duration, bool) {
			return 2 * time.Millisecond, u.Implementation == runtime.Original
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer array.Close()
	fmt.Println(array.Name(), array.Level())
	// Output: weight-stationary all
}
