package config

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/traffic"
	"github.com/terastal/terastal/variants"
)

func (c *Config) validate() error {
	names := map[string]bool{}
	for i := range c.Accelerators {
		if err := c.Accelerators[i].validate(names); err != nil {
			return fmt.Errorf("accelerators[%d]: %w", i, err)
		}
	}
	if err := c.validateNames(); err != nil {
		return err
	}
	names = map[string]bool{}
	for i := range c.Models {
		if err := c.Models[i].validate(names); err != nil {
			return fmt.Errorf("models[%d]: %w", i, err)
		}
	}
	for i := range c.Models {
		if err := c.validateChain(&c.Models[i]); err != nil {
			return err
		}
	}
	if err := c.validatePolicies(); err != nil {
		return err
	}
	if _, err := profiler.ParseQuantile(c.Cost); err != nil {
		return fmt.Errorf("cost: %w", err)
	}
	if _, err := variants.ParseArithmetic(c.Arithmetic); err != nil && c.Arithmetic != AutoArithmetic {
		return fmt.Errorf("%w, or auto", err)
	}
	p := &c.Profile
	_, err := c.Drill()
	return cmp.Or(err, checkAccuracy("accuracy", c.Accuracy),
		check(c.Queue >= 1, "queue is %d, must be at least 1", c.Queue),
		check(c.Realtime >= 0 && c.Realtime <= 99, "realtime is %d, must be 0 to 99", c.Realtime),
		check(c.Retries >= 0, "retries is %d, must not be negative", c.Retries),
		check(slices.Contains([]string{AutoKeep, AutoChoose, AutoAgain}, c.Auto), "auto is %q, must be %s, %s or %s", c.Auto,
			AutoKeep, AutoChoose, AutoAgain),
		check(c.Out != "", "out is empty: name a folder"),
		check(p.Budget > 0, "profile.budget is %v, must be positive", p.Budget),
		check(p.Precision > 0 && p.Precision < 1, "profile.precision is %v, must be above 0 and below 1", p.Precision),
		c.Traffic.validate())
}

// checkAccuracy refuses a floor that no mean accuracy can be held against.
func checkAccuracy(key string, floor float64) error {
	return check(floor >= 0 && floor <= 1, "%s is %v, must be 0 to 1, such as 0.99 for 99 %% of the originals' accuracy (0: "+
		"none is promised)", key, floor)
}

// check is an error unless ok.
func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func (c *Config) validatePolicies() error {
	if len(c.Policies) == 0 {
		return fmt.Errorf("policies is empty, have %s", strings.Join(policyNames(), ", "))
	}
	for i, p := range c.Policies {
		if slices.Contains(c.Policies[:i], p) {
			return fmt.Errorf("policy %q is listed twice", p)
		}
		if runtime.IsUnscheduled(p) {
			if len(c.Faults) > 0 {
				return fmt.Errorf("faults strike layers on accelerators, and %s has neither: leave out one of them", p)
			}
			continue
		}
		if _, err := policy.Find(p); err != nil {
			return fmt.Errorf("%w; %s take no decisions at all", err, runtime.UnscheduledNames())
		}
	}
	_, err := sched.ParseDrop(c.Drop)
	return err
}

// validateChain checks that the models that one comes after exist and end.
func (c *Config) validateChain(m *Model) error {
	at := m
	for steps := 0; at.After != ""; steps++ {
		next := slices.IndexFunc(c.Models, func(x Model) bool { return x.Name == at.After })
		switch {
		case next < 0:
			return fmt.Errorf("%q comes after %q, which is no model", at.Name, at.After)
		case steps == len(c.Models):
			return fmt.Errorf("%q comes after itself, through %q", m.Name, at.After)
		}
		at = &c.Models[next]
	}
	return nil
}

func (m *Model) validate(names map[string]bool) error {
	if m.Source == "" && m.Name == "" {
		return fmt.Errorf("no source: name an ONNX file or zoo:NAME")
	}
	if m.Name == "" {
		m.Name = strings.TrimPrefix(m.Source, "zoo:")
		if m.Name == m.Source {
			m.Name = strings.TrimSuffix(filepath.Base(m.Source), filepath.Ext(m.Source))
		}
	}
	if names[m.Name] {
		return fmt.Errorf("two models are named %q: give one another name", m.Name)
	}
	names[m.Name] = true
	if err := m.validateTrigger(); err != nil {
		return err
	}
	if m.Granularity == "" {
		m.Granularity = DefaultGranularity
	}
	_, err := m.Dimensions()
	p := &m.Pixels
	return cmp.Or(
		check((m.After != "" || m.Rate > 0) && !math.IsInf(m.Rate, 0),
			"rate of %q is %v, must be a positive number of requests per second", m.Name, m.Rate),
		check(m.Phase >= 0, "phase of %q is %v, must not be negative", m.Name, m.Phase),
		check(m.Deadline >= 0, "deadline of %q is %v, must be positive", m.Name, m.Deadline), err,
		check(!slices.Contains(p.Std, 0) && slices.Contains([]float64{0, 1, 255}, p.Range),
			"pixels of %q: range is %v, must be 1 or 255, and std %v, must not be 0", m.Name, p.Range, p.Std),
		m.validateVariants())
}

func (m *Model) validateVariants() error {
	switch m.Variants {
	case "", "1", "true": // YAML's other ways to say so
		m.Variants = "on"
	case "0", "false":
		m.Variants = "off"
	}
	if m.Theta == 0 {
		m.Theta = DefaultTheta
	}
	floor := 1.0
	if m.Accuracy != nil {
		floor = *m.Accuracy
	}
	return cmp.Or(checkAccuracy(fmt.Sprintf("accuracy of %q", m.Name), floor),
		check(m.Variants == "on" || m.Variants == "off", "variants of %q is %q, must be on or off", m.Name, m.Variants),
		check(m.Theta > 0 && m.Theta <= 1, "theta of %q is %v, must be above 0 and at most 1", m.Name, m.Theta),
		check(m.Metric == "" || slices.Contains(metrics, m.Metric), "metric of %q is %q, must be %s",
			m.Name, m.Metric, strings.Join(metrics, ", ")),
		m.Calibration.validate("calibration", m.Name), m.Labelled.validate("labelled", m.Name),
		check(m.Inputs != LabelledInputs || m.Labelled.Source != "", "inputs of %q are its labelled data, of which it has "+
			"none: name their source under labelled", m.Name))
}

func (d *Data) validate(what, model string) error {
	return cmp.Or(
		check(d.Source != "" || d.Labels == "" && d.Count == 0, "%s of %q has no source", what, model),
		check(d.First >= 0 && d.Count >= 0, "%s of %q: first is %d and count %d, must not be negative",
			what, model, d.First, d.Count))
}

func (m *Model) validateTrigger() error {
	switch {
	case m.After == "" && m.Probability != 0:
		return fmt.Errorf("%q has a probability but no model it comes after", m.Name)
	case m.After == "":
		return nil
	case m.Rate != 0:
		return fmt.Errorf("%q comes after %q and has a rate: leave one out", m.Name, m.After)
	case m.Deadline == 0:
		return fmt.Errorf("%q comes after %q and has no rate to make a deadline from: give it a deadline",
			m.Name, m.After)
	}
	if m.Probability == 0 {
		m.Probability = 1
	}
	return check(m.Probability > 0 && m.Probability <= 1,
		"probability of %q is %v, must be above 0 and at most 1", m.Name, m.Probability)
}

// PhasesGiven is the value of Traffic.Phases that takes them from the models.
const PhasesGiven = "given"

func (t *Traffic) validate() error {
	if _, err := traffic.ParseProcess(t.Arrivals); err != nil {
		return fmt.Errorf("traffic.arrivals: %w", err)
	}
	if _, err := traffic.ParsePhases(t.Phases); err != nil && t.Phases != PhasesGiven {
		return fmt.Errorf("traffic.phases: %w, given", err)
	}
	return cmp.Or(
		check((t.Arrivals == traffic.Recorded.String()) == (t.Trace != ""), `traffic.arrivals is %q and traffic.trace %q: `+
			`arrivals "trace" need a file, and only they take one`, t.Arrivals, t.Trace),
		check(t.Scale > 0 && !math.IsInf(t.Scale, 0), "traffic.scale is %v, must be positive", t.Scale),
		check(t.BurstOn > 0 && t.BurstOff >= 0, "traffic.burst_on is %v and burst_off %v: the first must be positive, "+
			"the second not negative", t.BurstOn, t.BurstOff),
		check(t.Jitter >= 0 && t.Jitter <= 1, "traffic.jitter is %v, must be 0 to 1", t.Jitter),
		check(t.Duration > 0, "traffic.duration is %v, must be positive", t.Duration),
		check(t.Load >= 0 && !math.IsInf(t.Load, 0),
			"traffic.load is %v, must be positive, or 0 to leave the rates as they are", t.Load))
}
