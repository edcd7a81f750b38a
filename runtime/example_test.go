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
	programs := []*runtime.Program{program}

	ctx := context.Background()
	task := profiler.Task{Specs: specs, Networks: []*runtime.Network{network}, Granularity: []string{"block"}, Start: func(k int) (profiler.Conn, error) {
		return profiler.Local(profiler.Setup{Networks: []*runtime.Network{network}, Specs: specs, Index: k, Accelerator: accs[k], Seed: 1}), nil
	}}
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
	executor, err := runtime.NewExecutor(tables, accs, programs, 1)
	if err != nil {
		log.Fatal(err)
	}
	defer executor.Close()
	result, err := executor.Run(ctx, runtime.Options{
		Policy:  "terastal",
		Traffic: sched.Traffic{Rates: []float64{100}, Phases: sched.AlignedPhases, Duration: 100 * time.Millisecond},
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
