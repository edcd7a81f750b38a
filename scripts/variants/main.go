// Command variants writes docs/evaluation/variants.md from plans that `terastal variants design` made: `go run
// ./scripts/variants out/*/plan.json`. A plan of D2S candidates only gives the table of these.
//
// With -ship FOLDER it writes the variants of one plan there instead, as package models/zoo embeds them.
//
// With -d2s it proves and measures the trained D2S variants of the zoo, on two accelerators of this machine, and writes
// the tables of these; plans give what was fitted for the same layers. It needs ONNX Runtime.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/terastal/terastal/sched/plan"
)

func main() {
	if err := command(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "variants: "+err.Error())
		os.Exit(1)
	}
}

func command(args []string, w io.Writer) error {
	flags := flag.NewFlagSet("variants", flag.ContinueOnError)
	to := flags.String("ship", "", "folder to write the variants of one plan to")
	d2s := flags.Bool("d2s", false, "measure the trained D2S variants")
	images := flags.Int("images", 1000, "test images to prove them on")
	budget := flags.Duration("budget", 20*time.Second, "how long to measure each network")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *d2s:
		return trainedD2S(context.Background(), w, flags.Args(), *images, *budget)
	case *to == "":
		return run(flags.Args(), w)
	case flags.NArg() != 1:
		return errors.New("-ship takes one plan")
	}
	return ship(flags.Arg(0), *to)
}

func run(paths []string, w io.Writer) error {
	list, err := readPlans(paths)
	if err != nil {
		return err
	}
	var all, d2s []plan.Variants
	for _, v := range list {
		if !allD2S(&v) {
			all = append(all, v)
		} else if len(v.Candidates) > 0 {
			d2s = append(d2s, v)
		}
	}
	summary(w, all)
	for i := range all {
		layers(w, &all[i])
	}
	published(w, d2s)
	return nil
}

// slow is the accelerator that most variants are for, the last if there are none.
func slow(v *plan.Variants) int {
	best, most := len(v.Accelerators)-1, 0
	for k, name := range v.Accelerators {
		n := 0
		for i := range v.Chosen {
			if slices.Contains(v.Chosen[i].Wanted, name) {
				n++
			}
		}
		if n > most {
			best, most = k, n
		}
	}
	return best
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	slices.Sort(x)
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

func summary(w io.Writer, list []plan.Variants) {
	fmt.Fprint(w, "| network | layers considered | with a variant | for | median gain there | least |")
	fmt.Fprintln(w, " accuracy alone, least | all together | storage | baseline |")
	fmt.Fprintln(w, "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |")
	for i := range list {
		v := &list[i]
		considered := map[int]bool{}
		for _, c := range v.Candidates {
			considered[c.Layer] = true
		}
		k := slow(v)
		var gains []float64
		alone := 1.0
		for n := range v.Chosen {
			if c := &v.Chosen[n]; slices.Contains(c.Wanted, v.Accelerators[k]) {
				gains, alone = append(gains, c.Gain(k)), min(alone, c.Alone)
			}
		}
		if len(gains) == 0 {
			fmt.Fprintf(w, "| %s | %d | 0 | %s | | | | | | |\n", v.Model, len(considered), v.Accelerators[k])
			continue
		}
		_, together := v.Largest()
		fmt.Fprintf(w, "| %s | %d | %d | %s | %.2fx | %.2fx | %.2f %% | %.2f %% | %.1f %% | %s %.4f, n = %d |\n",
			v.Model, len(considered), len(v.Chosen), v.Accelerators[k], median(gains), slices.Min(gains), 100*alone,
			100*together, 100*v.Overhead(), v.Metric, v.Baseline, v.Requests)
	}
}

func layers(w io.Writer, v *plan.Variants) {
	if len(v.Chosen) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s:\n\n| layer | variant |", v.Model)
	for _, a := range v.Accelerators {
		fmt.Fprintf(w, " %s | gain |", a)
	}
	fmt.Fprint(w, " error | accuracy alone | KB |\n| --- | --- |")
	for range v.Accelerators {
		fmt.Fprint(w, " ---: | ---: |")
	}
	fmt.Fprintln(w, " ---: | ---: | ---: |")
	for i := range v.Chosen {
		c := &v.Chosen[i]
		fmt.Fprintf(w, "| %s | %s, %s |", c.LayerName, c.Family, c.Parameters)
		latencies(w, c)
		fmt.Fprintf(w, " %.2g | %.2f %% | %.1f |\n", c.Error, 100*c.Alone, float64(c.Bytes)/1e3)
	}
}

// latencies are the cells of a variant's times and gains, by accelerator.
func latencies(w io.Writer, c *plan.Variant) {
	for k, d := range c.Latency {
		fmt.Fprintf(w, " %.0f us | %.2fx |", float64(d)/1e3, c.Gain(k))
	}
}

func published(w io.Writer, list []plan.Variants) {
	heading := "\nD2S, fitted by least squares, the least lossy gamma of each layer that was fast enough:\n\n" +
		"| network | layer | variant | gain | error | accuracy alone |\n| --- | --- | --- | ---: | ---: | ---: |\n"
	for i := range list {
		v := &list[i]
		k := slow(v)
		for n := range v.Candidates {
			if c := &v.Candidates[n]; c.Alone > 0 {
				fmt.Fprintf(w, "%s| %s | %s | %s | %.2fx | %.2g | %.2f %% |\n",
					heading, v.Model, c.LayerName, c.Parameters, c.Gain(k), c.Error, 100*c.Alone)
				heading = ""
			}
		}
	}
}
