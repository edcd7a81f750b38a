package scenario

import "fmt"

// Platform is a set of accelerators that scenarios run on.
type Platform struct {
	Name         string        `json:"name"`
	Accelerators []Accelerator `json:"accelerators"`
}

// Accelerator is an array of processing elements.
type Accelerator struct {
	// Name is unique on its platform.
	Name     string   `json:"name"`
	Dataflow Dataflow `json:"dataflow"`
	PEs      int      `json:"pes"`
}

// Dataflow says which operand stays in the processing elements.
type Dataflow string

// The dataflows of the published evaluation.
const (
	WeightStationary Dataflow = "WS"
	OutputStationary Dataflow = "OS"
)

// Hardware returns the platforms of the published evaluation: 4K has one weight-stationary array of 2048 processing
// elements and two output-stationary ones of 1024, 6K the same with 2048 each.
func Hardware() []Platform {
	return []Platform{
		{"4K", []Accelerator{{"ws2048", WeightStationary, 2048}, {"os1024a", OutputStationary, 1024},
			{"os1024b", OutputStationary, 1024}}},
		{"6K", []Accelerator{{"ws2048", WeightStationary, 2048}, {"os2048a", OutputStationary, 2048},
			{"os2048b", OutputStationary, 2048}}},
	}
}

// kind names the columns of the embedded tables that describe the accelerator.
func (a Accelerator) kind() string { return fmt.Sprintf("%s%d", a.Dataflow, a.PEs) }
