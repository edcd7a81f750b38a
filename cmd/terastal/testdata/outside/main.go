// Outside opens a plan, submits a request to each of its models, and runs
// traffic under a policy that it brings.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
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
	o := runtime.Options{Policy: "lifo", NewPolicy: newLIFO, Traffic: traffic.Config{
		Rates: []float64{50, 20}, Phases: traffic.AlignedPhases, Duration: 200 * time.Millisecond}}
	r, err := executor.Run(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	m := r.Log.Metrics()
	fmt.Printf("%s: %d of %d requests ended\n", r.Log.Header.Policy, m.Met+m.Late, m.Released)
	if _, difference, err := r.Log.Replay(newLIFO); err != nil || difference != "" {
		log.Fatal(difference, err)
	}
}

// lifo serves the last request first, on any accelerator that is idle.
type lifo struct{ tables *sched.Tables }

func newLIFO(c sched.Config) (sched.Policy, error) { return lifo{c.Tables}, nil }

func (p lifo) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	var taken uint64
	for i := len(s.Jobs) - 1; i >= 0; i-- {
		j := &s.Jobs[i]
		for k := range s.Accelerators {
			runs := p.tables.Model(j.Model).Cost(j, 0, k) < sched.Never
			if j.Waiting() && s.Idle(k) && taken>>k&1 == 0 && runs {
				taken |= 1 << k
				out = append(out, sched.Choice{Job: int32(i), Accelerator: int32(k)})
				break
			}
		}
	}
	return out
}
