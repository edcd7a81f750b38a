package profiler_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// newTask is a small network in blocks, on the CPU with two levels of optimisation.
func newTask() (profiler.Task, error) {
	data, err := zoo.Build("ds_cnn_kws", 1) // or models.Load("net.onnx", ...)
	if err != nil {
		return profiler.Task{}, err
	}
	model, err := models.Parse("kws", data, models.Options{})
	if err != nil {
		return profiler.Task{}, err
	}
	network, err := runtime.NewNetwork("kws", model, "block")
	return profiler.Task{
		Accelerators: []runtime.Spec{{Name: "all"}, {Name: "basic", Optimization: "basic"}},
		Networks:     []*runtime.Network{network},
	}, err
}

// A model is measured on two accelerators, in this process; the profile is written and read.
func Example() {
	if _, err := runtime.Start(""); err != nil {
		log.Fatal(err)
	}
	task, err := newTask()
	if err != nil {
		log.Fatal(err)
	}
	measured, err := profiler.Measure(context.Background(), task, profiler.Options{Budget: 50 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "profile")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "profile.json")
	if err := measured.Write(path); err != nil {
		log.Fatal(err)
	}

	p, err := profiler.Read(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("host and version known:", p.Host.LogicalCores > 0 && p.ORT != "")
	layers := p.Models[0].Layers
	for k, a := range p.Accelerators {
		measured := 0
		for l := range layers {
			if p.Cell(0, l, 0, k).Measured() {
				measured++
			}
		}
		sum, ok := p.Latency(0, k)
		fmt.Println(a.Name, "runs", measured, "of", len(layers), "layers; time of all known:", ok && sum > 0)
	}
	// Output:
	// host and version known: true
	// all runs 10 of 10 layers; time of all known: true
	// basic runs 10 of 10 layers; time of all known: true
}

// A program that measures in further processes of itself: started with an argument, it is one.
func ExampleServe() {
	main := func() error {
		if _, err := runtime.Start(""); err != nil {
			return err
		}
		task, err := newTask() // both sides make the same
		if err != nil {
			return err
		}
		if len(os.Args) > 1 {
			accelerator, err := strconv.Atoi(os.Args[1])
			if err != nil {
				return err
			}
			return profiler.Serve(os.Stdin, profiler.Output(), task, accelerator)
		}
		task.Start = func(accelerator int) (profiler.Conn, error) {
			return profiler.Start(exec.Command(os.Args[0], strconv.Itoa(accelerator)))
		}
		p, err := profiler.Measure(context.Background(), task, profiler.Options{Journal: "profile.journal"})
		if err != nil {
			return err
		}
		if err := p.Write("profile.json"); err != nil {
			return err
		}
		return profiler.RemoveJournal("profile.journal")
	}
	if err := main(); err != nil {
		log.Fatal(err)
	}
}

// Latencies of an accelerator that is not here become a profile, which a scheduler can plan with.
func ExampleReadTable() {
	p, err := profiler.ReadTable(strings.NewReader(`model,layer,accelerator,implementation,latency_us
detector,conv1,array,,120
detector,conv1,vector,,480
detector,fc,array,,90
detector,fc,array,pruned,40
`), profiler.TableOptions{Source: "vendor.csv"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Name(p.Cell(0, 1, 1, 0)), p.Cell(0, 1, 1, 0).P50)
	fmt.Println("conv1:", p.Medians(0, 0, 0))
	if c := p.Cell(0, 1, 0, 1); !c.Measured() {
		fmt.Println("fc on vector:", c.Refused)
	}
	system, err := p.System([]time.Duration{time.Millisecond}, profiler.P99) // one deadline per model
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(system.Models[0].Layers), "layers to schedule on", system.Accelerators)
	// Output:
	// {detector fc pruned array} 40µs
	// conv1: [120µs 480µs]
	// fc on vector: not in the table
	// 2 layers to schedule on [array vector]
}

// Two profiles are joined, cut down to what is of interest, and compared.
func ExampleCompare() {
	table := func(rows string) *profiler.Profile {
		p, err := profiler.ReadTable(strings.NewReader("model,layer,accelerator,latency_us\n"+rows), profiler.TableOptions{})
		if err != nil {
			log.Fatal(err)
		}
		return p
	}
	before := table("net,conv,cpu,100\nnet,fc,cpu,50\nother,fc,cpu,10\n") // or profiler.Read
	both, err := before.Merge(table("net,conv,npu,20\nnet,fc,npu,60\n"), profiler.MergeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	net, err := both.Select([]string{"net"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	c, err := profiler.CompareAccelerators(net, "cpu", "npu")
	if err != nil {
		log.Fatal(err)
	}
	sums := c.Accelerators[0].All
	fmt.Println("cpu", sums.SumA, "npu", sums.SumB, "each layer where it is faster", sums.SumBest)

	c, err = profiler.Compare(before, table("net,conv,cpu,80\nnet,fc,cpu,50\n"))
	if err != nil {
		log.Fatal(err)
	}
	for _, x := range c.Accelerators[0].Cells {
		fmt.Printf("%s: %v to %v, %+.0f %%\n", x.Layer, x.A.P50, x.B.P50, 100*x.Change)
	}
	fmt.Println("only before:", c.OnlyA)
	// Output:
	// cpu 150µs npu 80µs each layer where it is faster 70µs
	// conv: 100µs to 80µs, -20 %
	// fc: 50µs to 50µs, +0 %
	// only before: [{other fc original cpu}]
}
