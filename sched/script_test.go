package sched_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
)

// TestScripts runs the stories in testdata. Each drives one engine by hand and
// pins everything it records; -rewrite writes the outputs again. The language:
//
//	system              defines the task system; prints Algorithm 1's budgets
//	  accelerators A B ...
//	  device NAME LEAD A B ... [IDLE>EXTRA ...]    (wakings)
//	  model NAME DEADLINE
//	  layer NAME LATENCY-ON-A LATENCY-ON-B ...     ("-" where it cannot run)
//	  variant NUMBER LATENCY-ON-A LATENCY-ON-B ... (of the layer above)
//	  handoff A>B TIME                             (of the layer above's inputs)
//	  valid NUMBERS-JOINED-BY-+ ...                (of the model above)
//	  loss MOST LOSS-OF-VARIANT-1 ...              (of the model above)
//	  trigger PARENT PROBABILITY                   (of the model above)
//	engine policy=P [drop=D] [queue=N] [seed=N] [until=TIME] [closed] [adapt]
//	events              one per line; prints what the engine records
//	  TIME release MODEL [start=TIME] [deadline=TIME]
//	  TIME complete|up ACCELERATOR
//	  TIME ending ACCELERATOR [UNTIL]
//	  TIME fail|requeue|down ACCELERATOR REASON...
//	  TIME stop
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			s := &script{}
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				out, err := s.run(t, d)
				if err != nil {
					return fmt.Sprintf("%serror: %v\n", out, err)
				}
				return out
			})
		})
	}
}

type script struct {
	tables  *sched.Tables
	engine  *sched.Engine
	records []sched.Record
	jobs    int64
	started map[int]time.Duration // by accelerator
}

func (s *script) Record(r sched.Record) { s.records = append(s.records, r) }

func (s *script) run(t *testing.T, d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "system":
		return s.system(strings.Split(d.Input, "\n"))
	case "engine":
		return s.start(t, d)
	case "events":
		var out strings.Builder
		for _, line := range strings.Split(d.Input, "\n") {
			if err := s.event(t, &out, strings.Fields(line)); err != nil {
				return out.String(), fmt.Errorf("%s: %w", line, err)
			}
		}
		return out.String(), nil
	}
	d.Fatalf(t, "unknown directive %q", d.Cmd)
	return "", nil
}

func (s *script) system(lines []string) (string, error) {
	var sys sched.System
	for _, line := range lines {
		if err := define(&sys, strings.Fields(line)); err != nil {
			return "", fmt.Errorf("%s: %w", line, err)
		}
	}
	tables, err := sched.Compile(sys)
	if err != nil {
		return "", err
	}
	*s = script{tables: tables}
	var out strings.Builder
	for i, m := range sys.Models {
		b := tables.Budgets(i)
		fmt.Fprintf(&out, "%s: level %d", m.Name, b.Level)
		if b.Infeasible {
			out.WriteString(", infeasible")
		}
		for l := range m.Layers {
			fmt.Fprintf(&out, ", %s %v", m.Layers[l].Name, b.Layer[l])
		}
		out.WriteString("\n")
	}
	return out.String(), nil
}

// define adds one line of a system's definition to it.
func define(sys *sched.System, words []string) error {
	var m *sched.Model
	var l *sched.Layer
	if n := len(sys.Models); n > 0 {
		m = &sys.Models[n-1]
		if n := len(m.Layers); n > 0 {
			l = &m.Layers[n-1]
		}
	}
	verb, args := words[0], words[1:]
	switch verb {
	case "accelerators":
		sys.Accelerators = args
	case "device":
		return device(sys, args)
	case "model":
		deadline, err := time.ParseDuration(args[1])
		sys.Models = append(sys.Models, sched.Model{Name: args[0], Deadline: deadline})
		return err
	case "layer":
		latency, err := latencies(args[1:])
		m.Layers = append(m.Layers, sched.Layer{Name: args[0],
			Implementations: []sched.Implementation{{Name: "original", Latency: latency}}})
		return err
	case "variant":
		number, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		latency, err := latencies(args[1:])
		m.Variants = max(m.Variants, number)
		l.Implementations = append(l.Implementations,
			sched.Implementation{Name: "variant " + args[0], Variant: number, Latency: latency})
		return err
	case "handoff":
		from, to, _ := strings.Cut(args[0], ">")
		cost, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		if l.Handoff == nil {
			for range sys.Accelerators {
				l.Handoff = append(l.Handoff, make([]time.Duration, len(sys.Accelerators)))
			}
		}
		l.Handoff[slices.Index(sys.Accelerators, from)][slices.Index(sys.Accelerators, to)] = cost
	case "valid":
		for _, arg := range args {
			var set sched.VariantSet
			for _, word := range strings.Split(arg, "+") {
				number, err := strconv.Atoi(word)
				if err != nil {
					return err
				}
				set |= 1 << (number - 1)
			}
			m.Valid = append(m.Valid, set)
		}
	case "loss":
		xs, err := floats(args)
		if err != nil {
			return err
		}
		m.MaxLoss, m.Loss = xs[0], xs[1:]
	case "trigger":
		xs, err := floats(args[1:])
		if err != nil {
			return err
		}
		m.Trigger = &sched.Trigger{Parent: args[0], Probability: xs[0]}
	default:
		return fmt.Errorf("unknown word %q", verb)
	}
	return nil
}

func device(sys *sched.System, args []string) error {
	lead, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	d := sched.Device{Name: args[0], Lead: lead}
	for _, arg := range args[2:] {
		idle, extra, is := strings.Cut(arg, ">")
		if !is {
			d.Accelerators = append(d.Accelerators, slices.Index(sys.Accelerators, arg))
			continue
		}
		w, err := latencies([]string{idle, extra})
		if err != nil {
			return err
		}
		d.Waking = append(d.Waking, sched.Waking{Idle: w[0], Extra: w[1]})
	}
	sys.Devices = append(sys.Devices, d)
	return nil
}

func floats(words []string) ([]float64, error) {
	var out []float64
	for _, w := range words {
		x, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func latencies(words []string) ([]time.Duration, error) {
	var out []time.Duration
	for _, w := range words {
		c := sched.Unavailable
		if w != "-" {
			var err error
			if c, err = time.ParseDuration(w); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func (s *script) start(t *testing.T, d *datadriven.TestData) (string, error) {
	name, drop, queue := "", "none", 0
	d.MaybeScanArgs(t, "policy", &name)
	d.MaybeScanArgs(t, "drop", &drop)
	d.MaybeScanArgs(t, "queue", &queue)
	seed, until := uint64(0), "0s"
	d.MaybeScanArgs(t, "seed", &seed)
	d.MaybeScanArgs(t, "until", &until)
	cfg := sched.Config{Tables: s.tables, Policy: policy.Named(name), Queue: queue, Recorder: s, Seed: seed,
		ClosedLoop: d.HasArg("closed"), Adapt: d.HasArg("adapt")}
	var err error
	if cfg.Until, err = time.ParseDuration(until); err != nil {
		return "", err
	}
	if cfg.Drop, err = sched.ParseDrop(drop); err != nil {
		return "", err
	}
	s.jobs, s.records, s.started = 0, nil, map[int]time.Duration{}
	if s.engine, err = sched.New(cfg); err != nil {
		return "", err
	}
	return "ok\n", nil
}

func (s *script) event(t *testing.T, out *strings.Builder, words []string) error {
	at, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	sys := s.tables.System()
	ev := sched.Event{At: at, Start: at}
	verb, args := words[1], words[2:]
	switch verb {
	case "release":
		ev.Kind, ev.Job = sched.Release, s.jobs
		ev.Model = slices.IndexFunc(sys.Models, func(m sched.Model) bool { return m.Name == args[0] })
		s.jobs++
		for _, arg := range args[1:] {
			key, value, _ := strings.Cut(arg, "=")
			field := map[string]*time.Duration{"start": &ev.Start, "deadline": &ev.Deadline}[key]
			if *field, err = time.ParseDuration(value); err != nil {
				return err
			}
		}
	case "ending":
		ev.Kind, ev.Accelerator = sched.Ending, slices.Index(sys.Accelerators, args[0])
		if len(args) > 1 {
			if ev.Until, err = time.ParseDuration(args[1]); err != nil {
				return err
			}
		}
	case "complete", "fail", "requeue", "down", "up":
		ev.Kind = map[string]sched.EventKind{"complete": sched.Complete, "fail": sched.Fail, "requeue": sched.Requeue,
			"down": sched.AcceleratorDown, "up": sched.AcceleratorUp}[verb]
		ev.Accelerator = slices.Index(sys.Accelerators, args[0])
		ev.Start = s.started[ev.Accelerator]
		ev.Detail = strings.Join(args[1:], " ")
	case "stop":
		ev.Kind = sched.Stop
	default:
		return fmt.Errorf("unknown event %q", verb)
	}
	s.records = s.records[:0]
	dispatches, err := step(s.engine, ev)
	if err != nil {
		return err
	}
	for _, r := range s.records {
		out.WriteString(s.line(&r))
		if r.Kind != sched.Dispatched {
			continue
		}
		d := dispatches[0]
		dispatches = dispatches[1:]
		s.started[d.Accelerator] = r.At
		if d.Job != r.Job || d.Model != int(r.Model) || d.Layer != int(r.Layer) ||
			d.Implementation != int(r.Implementation) || d.Accelerator != int(r.Accelerator) || d.Finish != r.Until || d.Reason != r.Reason {
			t.Errorf("dispatch %+v was recorded as %+v", d, r)
		}
	}
	if len(dispatches) > 0 {
		t.Errorf("dispatches without a record: %+v", dispatches)
	}
	return nil
}

// step turns the panic of a broken invariant into an error.
func step(e *sched.Engine, ev sched.Event) (out []sched.Dispatch, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("panic: %v", broken)
		}
	}()
	return e.Step(ev), nil
}

// jobName numbers the jobs that the engine releases by itself from own0.
func jobName(id int64) string {
	if id >= sched.FirstOwnJob {
		return fmt.Sprint("own", id-sched.FirstOwnJob)
	}
	return fmt.Sprint(id)
}

// line is the readable form of a record.
func (s *script) line(r *sched.Record) string {
	sys := s.tables.System()
	accelerator := func() string { return sys.Accelerators[r.Accelerator] }
	what := fmt.Sprintf("%v: %v", r.At, r.Kind)
	if r.Kind >= sched.Down && r.Kind < sched.Requeued {
		if r.Accelerator >= 0 {
			what += " " + accelerator()
		}
		return strings.TrimSuffix(what+", "+r.Detail, ", ") + "\n"
	}
	m := &sys.Models[r.Model]
	what += " " + m.Name + "#" + jobName(r.Job)
	layer := func() string {
		l := &m.Layers[r.Layer]
		if r.Implementation == 0 {
			return l.Name
		}
		return l.Name + " " + l.Implementations[r.Implementation].Name
	}
	switch r.Kind {
	case sched.Released:
		what += fmt.Sprintf(" of %v, deadline %v", r.Start, r.Until)
	case sched.Dispatched:
		from := ""
		if r.Start > 0 {
			from = fmt.Sprintf("from %v ", r.Start)
		}
		what += fmt.Sprintf(" %s on %s %suntil %v (%v)", layer(), accelerator(), from, r.Until, r.Reason)
	case sched.Announced:
		what += fmt.Sprintf(" %s on %s until %v", layer(), accelerator(), r.Until)
	case sched.Requeued, sched.Doomed:
		what += fmt.Sprintf(" %s on %s, %s", layer(), accelerator(), r.Detail)
	case sched.Completed:
		what += fmt.Sprintf(" %s on %s", layer(), accelerator())
	case sched.Ended:
		what += fmt.Sprintf(" %v", r.Outcome)
		if r.Accelerator >= 0 {
			what += " on " + accelerator()
		}
		if r.Detail != "" {
			what += ": " + r.Detail
		}
	}
	return what + "\n"
}
