package scenario_test

import (
	"fmt"
	"log"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/scenario"
)

func ExampleLoad() {
	s, err := scenario.Load("paper/mcv_heavy")
	if err != nil {
		log.Fatal(err)
	}
	tables, err := sched.Compile(s.System)
	if err != nil {
		log.Fatal(err)
	}
	capacity, err := fluid.CapacityOf(tables, s.Rates)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.System.Accelerators)
	for i, m := range s.System.Models {
		fmt.Printf("%s: %g per second, %d layers, %d valid sets of %d variants\n", m.Name, s.Rates[i], len(m.Layers),
			len(m.Valid), m.Variants)
	}
	fmt.Printf("at most %.2f times these rates can be sustained without variants\n", capacity.Scale)
	// Output:
	// [ws2048 os2048a os2048b]
	// mobilenetv2_ssd: 60 per second, 86 layers, 4 valid sets of 4 variants
	// resnet50: 30 per second, 66 layers, 52 valid sets of 7 variants
	// vgg11: 30 per second, 11 layers, 3 valid sets of 4 variants
	// inceptionv3: 15 per second, 95 layers, 4 valid sets of 3 variants
	// swin_tiny: 30 per second, 77 layers, 16 valid sets of 4 variants
	// at most 1.27 times these rates can be sustained without variants
}
