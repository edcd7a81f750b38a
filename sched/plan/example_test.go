package plan_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// A plan is made from a task system, the rates of its models and the settings of its accelerators. runtime.Open opens
// the file.
func ExampleNew() {
	system := sched.System{Accelerators: []string{"cpu", "gpu"}, Models: []sched.Model{{
		Name: "detector", Deadline: 20 * time.Millisecond, Layers: []sched.Layer{{
			Name: "all", Implementations: []sched.Implementation{{
				Name: "original", Latency: []time.Duration{12 * time.Millisecond, 3 * time.Millisecond}}}}}}}}
	p, _, err := plan.New(system, []plan.Model{{Source: "detector.onnx", Cut: "model", Rate: 50}},
		[]plan.Accelerator{{Cores: []int{0}}, {Provider: "cuda"}})
	if err != nil {
		log.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "plan")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "plan.json")
	if err := p.Write(path); err != nil {
		log.Fatal(err)
	}
	p, tables, err := plan.Read(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s on %s: budget %v, %.1f times the rate fits\n", p.Models[0].Name, p.Accelerators[1].Name,
		tables.Budgets(0).Layer[0], p.Capacity.Scale)
	// Output:
	// detector on gpu: budget 20ms, 8.3 times the rate fits
}
