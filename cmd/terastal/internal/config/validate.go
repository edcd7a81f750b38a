package config

import (
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
	if c.Queue < 1 {
		return fmt.Errorf("queue is %d, must be at least 1", c.Queue)
	}
	if c.Realtime < 0 || c.Realtime > 99 {
		return fmt.Errorf("realtime is %d, must be 0 to 99", c.Realtime)
	}
	if c.Retries < 0 {
		return fmt.Errorf("retries is %d, must not be negative", c.Retries)
	}
	if _, err := c.Drill(); err != nil {
		return err
	}
	if c.Out == "" {
		return fmt.Errorf("out is empty: name a folder")
	}
	if c.Profile.Budget <= 0 {
		return fmt.Errorf("profile.budget is %v, must be positive", c.Profile.Budget)
	}
	if !(c.Profile.Precision > 0 && c.Profile.Precision < 1) {
		return fmt.Errorf("profile.precision is %v, must be above 0 and below 1", c.Profile.Precision)
	}
	return c.Traffic.validate()
}

func (c *Config) validatePolicies() error {
	if len(c.Policies) == 0 {
		return fmt.Errorf("policies is empty, have %s", strings.Join(policyNames(), ", "))
	}
	for i, p := range c.Policies {
		if slices.Contains(c.Policies[:i], p) {
			return fmt.Errorf("policy %q is listed twice", p)
		}
		if _, err := policy.Find(p); err != nil && p != runtime.Unscheduled {
			return fmt.Errorf("%w; %s takes no decisions at all", err, runtime.Unscheduled)
		}
	}
	_, err := sched.ParseDrop(c.Drop)
	return err
}

func (a *Accelerator) validate(names map[string]bool) error {
	if a.Name == "" {
		return fmt.Errorf("it has no name")
	}
	if names[a.Name] {
		return fmt.Errorf("two accelerators are named %q", a.Name)
	}
	names[a.Name] = true
	if _, err := pairs(a.Options); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	if a.Cache != "" && a.Cache != "on" && a.Cache != "off" {
		return fmt.Errorf("cache is %q, must be on or off", a.Cache)
	}
	emulated := a.Provider == runtime.EmulatedProvider
	if emulated != (a.Table != "") {
		return fmt.Errorf("provider is %q and table %q: emulated accelerators need a table, and only they take one",
			a.Provider, a.Table)
	}
	if emulated && len(a.Options) > 0 || !emulated && a.Compute {
		return fmt.Errorf("options are for execution providers, compute for emulated accelerators")
	}
	return nil
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
	if m.After == "" && !(m.Rate > 0) || math.IsInf(m.Rate, 0) {
		return fmt.Errorf("rate of %q is %v, must be a positive number of requests per second", m.Name, m.Rate)
	}
	if m.Phase < 0 {
		return fmt.Errorf("phase of %q is %v, must not be negative", m.Name, m.Phase)
	}
	if m.Deadline < 0 {
		return fmt.Errorf("deadline of %q is %v, must be positive", m.Name, m.Deadline)
	}
	if m.Granularity == "" {
		m.Granularity = DefaultGranularity
	}
	if _, err := m.Dimensions(); err != nil {
		return err
	}
	if p := &m.Pixels; slices.Contains(p.Std, 0) || p.Range != 0 && p.Range != 1 && p.Range != 255 {
		return fmt.Errorf("pixels of %q: range is %v, must be 1 or 255, and std %v, must not be 0",
			m.Name, p.Range, p.Std)
	}
	return m.validateVariants()
}

func (m *Model) validateVariants() error {
	switch m.Variants {
	case "", "1", "true": // YAML's other ways to say so
		m.Variants = "on"
	case "0", "false":
		m.Variants = "off"
	}
	if m.Variants != "on" && m.Variants != "off" {
		return fmt.Errorf("variants of %q is %q, must be on or off", m.Name, m.Variants)
	}
	if m.Theta == 0 {
		m.Theta = DefaultTheta
	}
	if !(m.Theta > 0 && m.Theta <= 1) {
		return fmt.Errorf("theta of %q is %v, must be above 0 and at most 1", m.Name, m.Theta)
	}
	if m.Metric != "" && !slices.Contains(metrics, m.Metric) {
		return fmt.Errorf("metric of %q is %q, must be %s", m.Name, m.Metric, strings.Join(metrics, ", "))
	}
	for what, d := range map[string]Data{"calibration": m.Calibration, "labelled": m.Labelled} {
		if d.Source == "" && (d.Labels != "" || d.Count != 0) {
			return fmt.Errorf("%s of %q has no source", what, m.Name)
		}
		if d.First < 0 || d.Count < 0 {
			return fmt.Errorf("%s of %q: first is %d and count %d, must not be negative", what, m.Name, d.First, d.Count)
		}
	}
	return nil
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
	if !(m.Probability > 0 && m.Probability <= 1) {
		return fmt.Errorf("probability of %q is %v, must be above 0 and at most 1", m.Name, m.Probability)
	}
	return nil
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
	if (t.Arrivals == traffic.Recorded.String()) != (t.Trace != "") {
		return fmt.Errorf(`traffic.arrivals is %q and traffic.trace %q: arrivals "trace" need a file, and only they take one`,
			t.Arrivals, t.Trace)
	}
	if !(t.Scale > 0) || math.IsInf(t.Scale, 0) {
		return fmt.Errorf("traffic.scale is %v, must be positive", t.Scale)
	}
	if t.BurstOn <= 0 || t.BurstOff < 0 {
		return fmt.Errorf("traffic.burst_on is %v and burst_off %v: the first must be positive, the second not negative",
			t.BurstOn, t.BurstOff)
	}
	if !(t.Jitter >= 0 && t.Jitter <= 1) {
		return fmt.Errorf("traffic.jitter is %v, must be 0 to 1", t.Jitter)
	}
	if t.Duration <= 0 {
		return fmt.Errorf("traffic.duration is %v, must be positive", t.Duration)
	}
	if !(t.Load >= 0) || math.IsInf(t.Load, 0) {
		return fmt.Errorf("traffic.load is %v, must be positive, or 0 to leave the rates as they are", t.Load)
	}
	return nil
}
