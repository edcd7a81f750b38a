package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// Plan prints which models meet their deadline nowhere, and what was planned for each on these accelerators.
func Plan(w io.Writer, models []result.ModelInfo, accelerators []plan.Accelerator, load float64) {
	Hopeless(w, hopeless(models))
	planTable(w, models, accelerators, load)
}

// Hopeless prints a line for every model that meets its deadline nowhere.
func Hopeless(w io.Writer, models []plan.Hopeless) {
	for _, h := range models {
		fmt.Fprintln(w, h)
	}
}

func hopeless(models []result.ModelInfo) (out []plan.Hopeless) {
	for i := range models {
		if m := &models[i]; m.NeedsMS > 0 {
			out = append(out, plan.Hopeless{Model: m.Name, DeadlineMS: m.DeadlineMS, NeedsMS: m.NeedsMS})
		}
	}
	return out
}

func planTable(w io.Writer, models []result.ModelInfo, accelerators []plan.Accelerator, load float64) {
	if len(models) == 0 {
		return
	}
	modelTable(models, placesOf(accelerators)).Text(w)
	table.Paragraph(w, demand(load))
}

func demand(load float64) string {
	return fmt.Sprintf("demand: %.3g of the measured capacity (the fluid bound; above 1 no schedule of the originals meets "+
		"all deadlines)", load)
}

// modelTable has what was planned; accelerators that places names as streams of a device have one column.
func modelTable(models []result.ModelInfo, places map[string]string) *table.Table {
	models = slices.Clone(models)
	for i := range models {
		m := &models[i]
		m.LatencyMS = byPlace(m.LatencyMS, places, func(a, _ float64) float64 { return a })
		m.Preferred = byPlace(m.Preferred, places, func(a, b int) int { return a + b })
	}
	has := map[string]bool{}
	variants, infeasible := false, []string{}
	for i := range models {
		m := &models[i]
		for a := range m.LatencyMS {
			has[a] = true
		}
		for a := range m.Preferred {
			has[a] = true
		}
		variants = variants || m.Variants > 0
		if m.Infeasible && m.NeedsMS == 0 {
			infeasible = append(infeasible, m.Name)
		}
	}
	accs := sorted(has)
	t := table.New("model", "+granularity", ">layers", ">variants", ">floor", ">rate/s", ">deadline")
	t.Title = "Models"
	for _, a := range accs {
		t.Column(">" + a)
	}
	t.Column(">fastest", "+>budget level")
	t.Explain("fastest", "latencies are sums of the layers' medians; (n): layers that are fastest there; fastest: each "+
		"layer on its best accelerator")
	if slices.ContainsFunc(models, func(m result.ModelInfo) bool { return m.AccuracyFloor > 0 }) {
		t.Explain("floor", "floor: the share of the accuracy that finished requests are promised to keep on the mean")
	}
	if len(infeasible) > 0 {
		t.Explain("deadline", "warning: even the fastest accelerators take longer than the deadline of %s",
			strings.Join(infeasible, ", "))
	}
	known := func(x float64, text string) string {
		if x == 0 {
			return ""
		}
		return text
	}
	for i := range models {
		m := &models[i]
		planned, level := "", fmt.Sprint(m.Level)
		if variants {
			planned = fmt.Sprint(m.Variants)
		}
		if m.Infeasible {
			level = "infeasible"
		}
		row := []any{m.Name, m.Granularity, m.Layers, planned, floorText(m.AccuracyFloor), known(m.RatePerS, fmt.Sprintf("%.1f", m.RatePerS)),
			known(m.DeadlineMS, msText(m.DeadlineMS))}
		for _, a := range accs {
			latency := "-"
			if l, ok := m.LatencyMS[a]; ok {
				latency = msText(l)
			}
			row = append(row, fmt.Sprintf("%s (%d)", latency, m.Preferred[a]))
		}
		t.Add(append(row, known(m.FastestMS, msText(m.FastestMS)), known(m.FastestMS, level))...)
	}
	return t.Dense()
}

func planned(specs []runtime.Spec) (out []plan.Accelerator) {
	for _, s := range specs {
		out = append(out, s.Plan())
	}
	return out
}

// Accelerators is a row for each; streams of a device share one.
func Accelerators(specs []runtime.Spec) *table.Table {
	t := table.New("accelerator", "provider", "optimization", ">threads", "cores", "options", "kept warm")
	t.Title = "Accelerators"
	for i := 0; i < len(specs); {
		a, n := &specs[i], 1
		for a.Of != "" && i+n < len(specs) && specs[i+n].Of == a.Of {
			n++
		}
		var options []string
		for _, k := range sorted(a.Options) {
			options = append(options, k+"="+a.Options[k])
		}
		warm := ""
		if a.KeepWarm {
			warm = "yes"
		}
		var cores []int
		for _, s := range specs[i : i+n] {
			cores = append(cores, s.Cores...)
		}
		t.Add(fromTo(a.Name, specs[i+n-1].Name), cmp.Or(a.Provider, "cpu"), cmp.Or(a.Optimization, "default"),
			max(1, a.Threads), strings.Trim(fmt.Sprint(cores), "[]"), strings.Join(options, ", "), warm)
		i += n
	}
	return t.Dense()
}

// fromTo words the first and the last of some names.
func fromTo(first, last string) string {
	if first == last {
		return first
	}
	return first + " to " + last
}

// Verification prints what was verified and how much the machine got in the way, a line per policy.
func Verification(w io.Writer, policies []result.PolicyResult) {
	t := executionTable([]result.Result{{Driver: eventlog.Real, Policies: policies}})
	fit(w, t, 1, table.Part{Goes: from(t, "release lag p50", 3)}, table.Part{Goes: from(t, "utilization", 1)})
}

// executionTable says how well runs were carried out; what no simulation has is empty there.
func executionTable(results []result.Result) *table.Table {
	t := table.New("policy", ">verified", ">largest difference", ">decision p50", ">p99", ">release lag p50", ">p99",
		">while idle p99", "utilization", "+taken by other processes")
	t.Title = "By policy"
	for i := range results {
		r := &results[i]
		for n := range r.Policies {
			p := &r.Policies[n]
			label := p.Policy
			if r.Driver != results[0].Driver {
				label += " (" + r.Driver + ")"
			}
			verified, diff, d50, d99, taken := "-", "-", "-", "-", ""
			if v := p.Verification; v != nil {
				verified, diff = fmt.Sprintf("%d of %d", v.Verified, v.Verified+v.Wrong), fmt.Sprintf("%.1e", v.MaxAbsDiff)
			}
			if p.DecisionP99NS > 0 {
				d50, d99 = usText(float64(p.DecisionP50NS)/1e3), usText(float64(p.DecisionP99NS)/1e3)
			}
			if p.Execution != nil {
				taken = shares(p.Preempted)
			}
			use := shares(p.Utilization)
			if lanes, mean := p.Lanes(); lanes > 0 {
				use = fmt.Sprintf("%d lanes, mean %s", lanes, percent(mean))
			}
			t.Add(label, verified, diff, d50, d99, usText(p.ReleaseLagP50US), usText(p.ReleaseLagP99US),
				usText(p.IdleLagP99US), use, taken)
		}
	}
	return t.Dense()
}

// shares lists shares by name.
func shares(of map[string]float64) string {
	var out []string
	for _, k := range sorted(of) {
		out = append(out, k+" "+percent(of[k]))
	}
	return strings.Join(out, ", ")
}

// machine says how well the machine carried the runs out.
func (p *Page) machine() section {
	s := section{ID: "machine", Title: "How the machine and the scheduler did", Wide: true}
	t := executionTable(p.Results)
	notes := table.New("policy", "doubt")
	notes.Title = "Doubts about the runs"
	for i := range p.Results {
		for n := range p.Results[i].Policies {
			x := &p.Results[i].Policies[n]
			if x.Execution == nil {
				continue
			}
			if text := x.Places(); text != "" {
				s.Text = append(s.Text, x.Policy+": "+text+".")
			}
			for _, note := range x.Notes {
				notes.Add(x.Policy, note)
			}
		}
	}
	s.Tables = append(append([]*table.Table{t}, runTables(p.Results)...), energyTable(p.Results))
	if n := len(notes.Rows); n > 0 {
		notes.Folded = plural(n, "doubt") + " about the runs"
		s.Tables = append(s.Tables, notes)
	}
	return s
}

// ran says what was run on what.
func (p *Page) ran() section {
	s := section{ID: "ran", Title: "What was run on what", Wide: true}
	switch {
	case len(p.Results) > 0:
		r := &p.Results[0]
		s.name(hopeless(r.Models))
		s.Text = append(s.Text, r.Hardware, trafficText(r.Driver, &r.Traffic))
		s.Tables = append(s.Tables, modelTable(r.Models, placesOf(planned(r.Accelerators))), Accelerators(r.Accelerators))
	case len(p.Logs) > 0:
		h := &p.Logs[0].Header
		if t, err := sched.Compile(h.System); err == nil {
			s.name(plan.HopelessOf(t))
		}
		s.Text = append(s.Text, fmt.Sprintf("From %s (%s), without the result of a run. Requests were released for %s; seed "+
			"%d; late requests: drop %s.", plural(len(p.Logs), "event log"), h.Driver, secondsText(h.Duration), h.Seed, h.Drop))
		var models []result.ModelInfo
		for m := range h.System.Models {
			x := &h.System.Models[m]
			models = append(models, result.ModelInfo{Name: x.Name, Layers: len(x.Layers), RatePerS: h.Rates[m],
				DeadlineMS: ms(x.Deadline)})
		}
		s.Tables = append(s.Tables, modelTable(models, nil))
	case p.Profile != nil:
		s.Text = append(s.Text, fmt.Sprintf("A profile measured on %s.", processor(p.Profile.Host.CPU)))
		var models []result.ModelInfo
		for _, m := range p.Profile.Models {
			models = append(models, result.ModelInfo{Name: m.Name, Layers: len(m.Layers), Granularity: m.Granularity})
		}
		s.Tables = append(s.Tables, modelTable(models, nil), Accelerators(p.Profile.Accelerators))
	default:
		return s
	}
	return s
}

// name adds a line for every model that meets its deadline nowhere.
func (s *section) name(models []plan.Hopeless) {
	for _, h := range models {
		s.Text = append(s.Text, h.String()+".")
	}
}

func processor(name string) string { return cmp.Or(name, "an unnamed processor") }

func trafficText(driver string, t *result.TrafficInfo) string {
	text := fmt.Sprintf("Traffic: %s arrivals for %s s per policy, the same for all policies (seed %d), drop %s; %s.",
		t.Arrivals, number(t.DurationS), t.Seed, t.Drop, demand(t.Load))
	if driver != eventlog.Real {
		text = "Played on the simulator, in virtual time. " + text
	}
	return text
}

// provenance lists settings, seeds, versions and files.
func (p *Page) provenance() section {
	s := section{ID: "provenance", Title: "Settings and provenance", Wide: true, Text: p.Notes}
	g := table.New("what", "value")
	g.Title = "Settings"
	add := func(what, value string) {
		if value != "" {
			g.Add(what, value)
		}
	}
	for i := range p.Results {
		r := &p.Results[i]
		add("driver", r.Driver)
		add("ONNX Runtime", r.ORT)
		t := &r.Traffic
		add("traffic", fmt.Sprintf("arrivals %s, phases %s, jitter %s, %s s, seed %d, drop %s", t.Arrivals, t.Phases,
			number(t.Jitter), number(t.DurationS), t.Seed, t.Drop))
		h := &r.Host
		add("system", strings.TrimSpace(strings.Join([]string{h.OS, h.Arch, h.Kernel}, " ")))
		add("processor", fmt.Sprintf("%s, %d cores, governor %s, load average %.1f before", cmp.Or(h.CPU, "unnamed"),
			h.LogicalCores, cmp.Or(h.Governor, "unknown"), h.Load1m))
		if h.MemoryBytes > 0 {
			add("memory", fmt.Sprintf("%.1f GiB", float64(h.MemoryBytes)/(1<<30)))
		}
		if r.ClockStepNS > 0 {
			add("clock", fmt.Sprintf("advances in steps of %d ns", r.ClockStepNS))
		}
		for _, gpu := range h.GPUs {
			add("graphics processor", strings.TrimSpace(gpu.Vendor+" "+gpu.Model+" "+gpu.Driver))
		}
		add("CUDA driver", h.CUDA.Driver)
	}
	for _, l := range p.Logs {
		h := &l.Header
		text := fmt.Sprintf("%s, %s, seed %d, queue %d, drop %s, %s records", h.Driver, h.Policy, h.Seed, h.Queue, h.Drop,
			group(len(l.Records)))
		if h.Adapt {
			text += ", adapting"
		}
		if h.Distorted != "" {
			text += "; its times are distorted: " + h.Distorted
		}
		add(l.File, text)
	}
	if x := p.Profile; x != nil {
		add("profile", fmt.Sprintf("measured %s with ONNX Runtime %s on %s", x.Created, x.ORT, processor(x.Host.CPU)))
		for _, m := range x.Models {
			add("model "+m.Name, "SHA-256 "+m.SHA256+", cut "+cmp.Or(m.Cut, m.Granularity))
		}
		for _, w := range x.Warnings {
			add("doubt about the profile", w.Text)
		}
	}
	add("files read", strings.Join(p.Files, ", "))
	s.Tables = []*table.Table{g}
	return s
}
