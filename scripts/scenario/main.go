// Command scenario makes a scenario that ships with package sched/scenario of what was measured on a machine:
//
//	terastal plan --config system.yaml --profile profile.json --load 0.6 --out out
//	go run ./scripts/scenario -plan out/plan.json -profile profile.json -name h100-5nets -commit 07e6bcf \
//		-note "five networks"
//
// The plan holds the latencies, handoffs, rates and deadlines, the profile what they were measured on. Plans and profiles
// may be gzipped. The scenario goes to sched/scenario/data/hw/NAME.json.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/scenario"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scenario: "+err.Error())
		os.Exit(1)
	}
}

// options are what documents do not say.
type options struct {
	name, commit, note string
}

func command(args []string) error {
	flags := flag.NewFlagSet("scenario", flag.ContinueOnError)
	planned := flags.String("plan", "", "plan, with latencies, rates and deadlines")
	measured := flags.String("profile", "", "profile that the plan was made from")
	to := flags.String("to", "sched/scenario/data/hw", "folder to write to")
	var o options
	flags.StringVar(&o.name, "name", "", "name of the scenario, without "+scenario.Measured)
	flags.StringVar(&o.commit, "commit", "", "commit that measured it")
	flags.StringVar(&o.note, "note", "", "what a reader of results has to know about it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *planned == "" || *measured == "" || o.name == "" || o.commit == "" || o.name != filepath.Base(o.name) {
		return errors.New("name the -plan, its -profile, the scenario's -name and the -commit that measured it")
	}
	p, _, err := plan.Read(*planned)
	if err != nil {
		return err
	}
	m, err := profiler.Read(*measured)
	if err != nil {
		return err
	}
	data, err := o.scenario(p, m)
	if err != nil {
		return err
	}
	path := filepath.Join(*to, o.name+".json")
	fmt.Printf("%s: %d bytes\n", path, len(data))
	return document.WriteFile(path, data)
}

// scenario is the document, a line for every layer, checked by reading it.
func (o *options) scenario(p *plan.Plan, m *profiler.Profile) ([]byte, error) {
	if len(m.Accelerators) < len(p.Accelerators) {
		return nil, errors.New("the plan was not made from this profile: it has more accelerators")
	}
	s := scenario.Scenario{Name: scenario.Measured + o.name, Source: o.source(m), Note: o.note, System: p.System,
		Rates: p.Rates()}
	s.System.Pricing = nil // follows from the rest
	for i := range p.Models {
		s.System.Models[i].Floor = 0 // scenarios promise nothing: that is the user's to do
		if s.System.Models[i].Trigger != nil {
			s.Rates[i] = 0
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	data = bytes.ReplaceAll(data, []byte(`{"name":`), []byte("\n{\"name\":"))
	data = append(bytes.TrimSpace(data), '\n')
	_, err = scenario.Parse(data)
	return data, err
}

// source says what the scenario was measured on, and when.
func (o *options) source(m *profiler.Profile) string {
	on := []string{fmt.Sprintf("%s, %d cores", m.Host.CPU, m.Host.LogicalCores)}
	for _, g := range m.Host.GPUs {
		if g.Model != "" {
			on = append(on, strings.TrimSpace(g.Model))
		}
	}
	date, _, _ := strings.Cut(m.Created, "T")
	return fmt.Sprintf("measured on %s, with ONNX Runtime %s, on %s, commit %s; latencies are the layers' medians in a busy "+
		"system", strings.Join(on, " and "), m.ORT, date, o.commit)
}
