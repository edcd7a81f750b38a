// Outside opens a plan, submits a request to each of its models, and runs
// traffic.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/traffic"
)

func main() {
	ctx := context.Background()
	executor, err := runtime.Open("out/plan.json", runtime.OpenOptions{Root: "."})
	if err != nil {
		log.Fatal(err)
	}
	defer executor.Close(ctx)
	for _, model := range []string{"detector", "kws"} {
		inputs := runtime.Tensors{}
		for _, t := range executor.Model(model).Inputs() {
			var shape []int
			for _, n := range t.Shape {
				shape = append(shape, int(n))
			}
			inputs[t.Name] = tensor.New(tensor.WithShape(shape...), tensor.Of(tensor.Float32))
		}
		pending, err := executor.Submit(ctx, model, inputs, runtime.RequestOptions{Deadline: 10 * time.Second})
		if err != nil {
			log.Fatal(err)
		}
		r, err := pending.Wait(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %v, %d output\n", model, r.Outcome, len(r.Outputs))
	}
	executor.Stop(ctx)
	r, err := executor.Run(ctx, runtime.Options{Policy: "edf", Traffic: traffic.Config{Rates: []float64{50, 20}, Phases: traffic.AlignedPhases, Duration: 200 * time.Millisecond}})
	if err != nil {
		log.Fatal(err)
	}
	m := r.Log.Metrics()
	fmt.Printf("last come, first served: all of %d ended\n", m.Released)
}
