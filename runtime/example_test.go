package runtime_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/traffic"
)

// An application opens a plan, submits requests to its models by name, and waits for the answers.
func Example() {
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	writePlan(folder) // or: terastal plan --config my.yaml

	ctx := context.Background()
	executor, err := runtime.Open(filepath.Join(folder, "plan.json"), runtime.OpenOptions{
		Options: runtime.Options{Policy: "terastal", Drop: sched.DropLate, Queue: 16},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer executor.Close(ctx)
	input := tensor.New(tensor.WithShape(1, 1, 49, 10), tensor.Of(tensor.Float32))
	for range 3 {
		pending, err := executor.Submit(ctx, "kws", runtime.Tensors{"input": input},
			runtime.RequestOptions{Deadline: time.Second})
		if err != nil {
			log.Fatal(err)
		}
		r, err := pending.Wait(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Outcome, r.Outputs["output"].Shape())
	}
	// Output:
	// met (1, 12)
	// met (1, 12)
	// met (1, 12)
}

// A run plays traffic under a policy, and verifies that the schedule moved the right tensors.
func ExampleExecutor_Run() {
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	writePlan(folder)

	ctx := context.Background()
	executor, err := runtime.Open(filepath.Join(folder, "plan.json"), runtime.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer executor.Close(ctx)
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

// writePlan measures a network on two accelerators and plans for it.
func writePlan(folder string) {
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	_, err := runtime.Start("")
	must(err)
	data, err := zoo.Build("ds_cnn_kws", 1)
	must(err)
	must(os.WriteFile(filepath.Join(folder, "kws.onnx"), data, 0o644))
	model, err := models.Load(filepath.Join(folder, "kws.onnx"), models.Options{})
	must(err)
	network, err := runtime.NewNetwork("kws", model, "block")
	must(err)

	specs := []runtime.Spec{{Name: "all"}, {Name: "basic", Optimization: "basic"}}
	var planned []plan.Accelerator
	for _, s := range specs {
		planned = append(planned, s.Plan())
	}
	task := profiler.Task{Accelerators: specs, Networks: []*runtime.Network{network}}
	profile, err := profiler.Measure(context.Background(), task, profiler.Options{Budget: 50 * time.Millisecond})
	must(err)
	system, err := profile.System([]time.Duration{time.Second}, profiler.P50) // one deadline per model
	must(err)
	p, _, err := plan.New(system, []plan.Model{{Name: "kws", Source: "kws.onnx", SHA256: model.SHA256(),
		Granularity: "block", Cut: models.Cut(network.Layers).String(), Rate: 100}}, planned)
	must(err)
	must(p.Write(filepath.Join(folder, "plan.json")))
}

// An accelerator that is not here: its layers take as long as a function says, and the CPU computes their values.
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
