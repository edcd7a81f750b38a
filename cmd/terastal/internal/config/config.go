// Package config reads Terastal's configuration: a YAML file, TERASTAL_*
// environment variables and command-line flags, in rising precedence. Unknown
// keys, missing values and values out of range are errors that name the key.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
	"github.com/terastal/terastal/variants"
)

// ErrInvalid is wrapped by every error about the configuration itself.
var ErrInvalid = errors.New("invalid configuration")

// Config is everything a user can say about a run.
type Config struct {
	// Accelerators to use; empty means those that suit the machine.
	Accelerators []Accelerator `mapstructure:"accelerators"`
	Models       []Model       `mapstructure:"models"`
	Traffic      Traffic       `mapstructure:"traffic"`
	Profile      Profile       `mapstructure:"profile"`
	Policies     []string      `mapstructure:"policies"`
	// Cost is the quantile of the measured latencies that decisions are based
	// on: min, mean, p50, p90, p95 or p99. Adapt corrects it while running
	// towards what layers really take.
	Cost  string `mapstructure:"cost"`
	Adapt bool   `mapstructure:"adapt"`
	// Drop is when waiting jobs are given up: none, late, hopeless or smart.
	Drop string `mapstructure:"drop"`
	// Queue bounds the jobs of one model that are in the system at once.
	Queue int `mapstructure:"queue"`
	// Realtime is the real-time priority (SCHED_FIFO, 1 to 99) of the threads
	// that run layers; 0 for none.
	Realtime int `mapstructure:"realtime"`
	// Retries is how often a layer that fails is run again before its request
	// fails.
	Retries int `mapstructure:"retries"`
	// Faults make accelerators misbehave, as drills; see runtime.ParseFault.
	Faults []string `mapstructure:"faults"`
	// SaveOutputs writes the outputs of the verified requests as .npy files.
	SaveOutputs bool `mapstructure:"save_outputs"`
	// Arithmetic is what becomes of 8-bit products on this processor: exact,
	// saturating or saturating-throughout, see variants.Arithmetic, or
	// AutoArithmetic (the default) to try.
	Arithmetic string `mapstructure:"arithmetic"`
	// Out is the folder that results are written to.
	Out string `mapstructure:"out"`

	file string
}

// Accelerator is an execution provider with its settings; see runtime.Spec.
// Options are written as a list of "key=value", since keys are case-sensitive.
type Accelerator struct {
	Name         string   `mapstructure:"name"`
	Provider     string   `mapstructure:"provider"`
	Options      []string `mapstructure:"options"`
	Optimization string   `mapstructure:"optimization"`
	Threads      int      `mapstructure:"threads"`
	Cores        []int    `mapstructure:"cores"`
	// Device chooses among the devices of a provider that is a plugin. Cache is
	// "on" (the default) where engines that the provider compiles are kept from
	// run to run, else "off".
	Device string `mapstructure:"device"`
	Cache  string `mapstructure:"cache"`
	// Table is the CSV file of an emulated accelerator's latencies, relative to
	// the configuration's folder; Compute really computes its layers, too.
	Table   string `mapstructure:"table"`
	Compute bool   `mapstructure:"compute"`
}

// Model is one model with its traffic and timing.
type Model struct {
	// Name defaults to the file's or zoo network's name.
	Name string `mapstructure:"name"`
	// Source is an ONNX file, relative to the configuration's folder, or
	// "zoo:NAME". A named model without one can only be simulated, from a
	// profile of latency tables.
	Source string `mapstructure:"source"`
	// Rate is in releases per second.
	Rate float64 `mapstructure:"rate"`
	// Deadline is relative to the release; zero means one period.
	Deadline time.Duration `mapstructure:"deadline"`
	// Granularity says how the model is split; see models.ParseGranularity.
	Granularity string `mapstructure:"granularity"`
	// After names the model whose completion releases this one, in place of
	// arrivals of its own, with the given Probability (default 1).
	After       string  `mapstructure:"after"`
	Probability float64 `mapstructure:"probability"`
	// Phase is the first release of periodic arrivals with phases "given".
	Phase time.Duration `mapstructure:"phase"`
	// Inputs names where the requests' inputs come from, relative to the
	// configuration's folder; empty for random ones. See dataset.Spec.
	Inputs string `mapstructure:"inputs"`
	// Pixels says how images become inputs, of requests and of variants.
	Pixels Pixels `mapstructure:"pixels"`
	// Dims binds symbolic dimensions, each "name=value".
	Dims []string `mapstructure:"dims"`
	// Variants is "on" (the default) where the model's layer variants may be
	// designed and used, else "off".
	Variants string `mapstructure:"variants"`
	// Theta is the least normalised accuracy that a combination of variants must
	// keep; 0 is DefaultTheta. Metric is what accuracy is: top-1, top-5, agreement or error, or
	// empty for what suits the data.
	Theta  float64 `mapstructure:"theta"`
	Metric string  `mapstructure:"metric"`
	// Calibration are inputs to fit variants to, Labelled ones to measure their
	// accuracy on.
	Calibration Data `mapstructure:"calibration"`
	Labelled    Data `mapstructure:"labelled"`
}

// Data says where a model's data are; see dataset.Spec.
type Data struct {
	Source string `mapstructure:"source"`
	Labels string `mapstructure:"labels"`
	First  int    `mapstructure:"first"`
	Count  int    `mapstructure:"count"`
}

// Pixels says how the pixels of images become numbers; see dataset.Pixels.
type Pixels struct {
	Range float64   `mapstructure:"range"`
	Mean  []float64 `mapstructure:"mean"`
	Std   []float64 `mapstructure:"std"`
	BGR   bool      `mapstructure:"bgr"`
}

// AutoArithmetic lets the processor's 8-bit arithmetic be tried.
const AutoArithmetic = "auto"

// DefaultTheta is the published accuracy promise.
const DefaultTheta = 0.9

// metrics are the values of Model.Metric.
var metrics = []string{"top-1", "top-5", "agreement", "error"}

// UsesVariants reports whether the model may use variants.
func (m *Model) UsesVariants() bool { return m.Variants != "off" }

// Traffic says how requests arrive.
type Traffic struct {
	Arrivals string        `mapstructure:"arrivals"`
	Phases   string        `mapstructure:"phases"`
	Jitter   float64       `mapstructure:"jitter"`
	Duration time.Duration `mapstructure:"duration"`
	Seed     uint64        `mapstructure:"seed"`
	// Scale multiplies all rates; deadlines that follow from them stay.
	Scale float64 `mapstructure:"scale"`
	// BurstOn and BurstOff are the mean lengths of the phases of "bursts".
	BurstOn  time.Duration `mapstructure:"burst_on"`
	BurstOff time.Duration `mapstructure:"burst_off"`
	// Trace is the CSV file that arrivals "trace" plays, relative to the
	// configuration's folder.
	Trace string `mapstructure:"trace"`
	// Load, if positive, scales all rates so that the demand is this share of
	// the measured capacity.
	Load float64 `mapstructure:"load"`
}

// Profile says how layers are measured.
type Profile struct {
	// Budget is the time to measure for; Precision the half-width of the
	// median's confidence interval to reach, as a share of it.
	Budget    time.Duration `mapstructure:"budget"`
	Precision float64       `mapstructure:"precision"`
}

// DefaultGranularity is how models are split unless said otherwise.
const DefaultGranularity = "block"

// flags maps the flags that AddFlags defines to the keys they set.
var flags = map[string]string{
	"duration": "traffic.duration", "seed": "traffic.seed", "load": "traffic.load", "arrivals": "traffic.arrivals",
	"scale": "traffic.scale", "burst-on": "traffic.burst_on", "burst-off": "traffic.burst_off", "trace": "traffic.trace",
	"cost": "cost", "adapt": "adapt", "phases": "traffic.phases", "jitter": "traffic.jitter", "policies": "policies", "drop": "drop", "queue": "queue",
	"realtime": "realtime", "retries": "retries", "faults": "faults", "save-outputs": "save_outputs", "out": "out", "budget": "profile.budget", "precision": "profile.precision",
	"arithmetic": "arithmetic",
}

// AddFlags defines the named flags, each of which overrides a key of the file;
// the defaults shown are those of the configuration.
func AddFlags(f *pflag.FlagSet, names ...string) {
	for _, n := range names {
		switch n {
		case "duration":
			f.Duration(n, 10*time.Second, "how long requests are released")
		case "seed":
			f.Uint64(n, 1, "seed of arrivals and inputs")
		case "load":
			f.Float64(n, 0, "scale all rates to this share of the measured capacity (0: rates as given)")
		case "arrivals":
			f.String(n, "periodic", "arrival process: periodic, poisson, bursts, closed (one request of each model at a time) or trace")
		case "scale":
			f.Float64(n, 1, "factor on all rates; deadlines stay")
		case "burst-on":
			f.Duration(n, 200*time.Millisecond, "mean length of bursts")
		case "burst-off":
			f.Duration(n, 200*time.Millisecond, "mean time between bursts")
		case "trace":
			f.String(n, "", "CSV file of model,release_us that arrivals \"trace\" plays")
		case "cost":
			f.String(n, "p50", "quantile of the measured latencies that decisions are based on: min, mean, p50, p90, p95 or p99")
		case "adapt":
			f.Bool(n, false, "correct predictions while running towards what layers really take")
		case "phases":
			f.String(n, "random", "phases of periodic arrivals: random, aligned, or given (by the models' phase)")
		case "jitter":
			f.Float64(n, 0, "periodic releases are late by up to this share of their period")
		case "policies":
			f.StringSlice(n, defaultPolicies, "scheduling policies, separated by commas: "+strings.Join(policyNames(), ", ")+"; each also as NAME-model, for whole models; "+runtime.Unscheduled+": ordinary sessions, started at release")
		case "drop":
			f.String(n, "late", "when waiting requests are given up: none, late, hopeless or smart")
		case "queue":
			f.Int(n, sched.DefaultQueue, "most requests of one model in the system at once")
		case "realtime":
			f.Int(n, 0, "real-time priority of the threads that run layers, 1 to 99 (0: none)")
		case "retries":
			f.Int(n, 0, "how often a layer that fails is run again before its request fails")
		case "faults":
			f.StringArray(n, nil, "drill: make accelerators misbehave, such as \"error accelerator=gpu p=0.01\" or \"hang after=500 times=1\" (may be repeated)")
		case "save-outputs":
			f.Bool(n, false, "write the outputs of the verified requests to OUT/outputs, as .npy files")
		case "out":
			f.String(n, "out", "folder that results are written to")
		case "budget":
			f.Duration(n, 20*time.Second, "time to measure layers for")
		case "precision":
			f.Float64(n, 0.02, "half-width of the median's 95 % confidence interval to reach, as a share of it")
		case "arithmetic":
			f.String(n, AutoArithmetic, "what becomes of 8-bit products on this processor: auto (try), exact, saturating or saturating-throughout")
		default:
			panic("config: no flag " + n)
		}
		f.SetAnnotation(n, ofConfig, nil)
	}
}

// ofConfig marks the flags that AddFlags defines: a verb may use the same name
// for something else.
const ofConfig = "terastal-config"

func annotated(f *pflag.Flag) bool {
	_, ok := f.Annotations[ofConfig]
	return ok
}

// SetDefault changes the default of a flag that AddFlags defined.
func SetDefault(f *pflag.FlagSet, name, value string) {
	flag := f.Lookup(name)
	flag.DefValue = value
	var err error
	if list, ok := flag.Value.(pflag.SliceValue); ok {
		// Set would make the user's values add to the default.
		err = list.Replace(strings.Split(value, ","))
		flag.DefValue = "[" + value + "]"
	} else {
		err = flag.Value.Set(value)
	}
	if err != nil {
		panic("config: default of " + name + ": " + err.Error())
	}
}

// defaultPolicies are compared unless others are asked for.
var defaultPolicies = []string{"fcfs", "edf", "dream", "terastal"}

func policyNames() []string {
	var out []string
	for _, p := range sched.Policies() {
		out = append(out, p.Name)
	}
	return out
}

// Load reads the file (none if empty), the environment and the flags, fills in
// defaults and checks everything.
func Load(file string, fs *pflag.FlagSet) (*Config, error) {
	v := viper.New()
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(all, slices.Sorted(keys(flags))...)
	for name, key := range flags {
		given := fs.Lookup(name)
		if given == nil || !annotated(given) {
			given = all.Lookup(name)
		}
		if err := v.BindPFlag(key, given); err != nil {
			return nil, err
		}
	}
	v.SetEnvPrefix("TERASTAL")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	if file != "" {
		data, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		defer data.Close()
		v.SetConfigType("yaml")
		if err := v.ReadConfig(data); err != nil {
			return nil, fmt.Errorf("%w: %s: %s", ErrInvalid, file, oneLine(err))
		}
	}
	if s, ok := v.Get("accelerators").(string); ok && s == "auto" {
		v.Set("accelerators", []any{})
	}
	c := &Config{file: file}
	if err := decode(v, c); err != nil {
		return nil, fmt.Errorf("%w%s: %s", ErrInvalid, c.in(), oneLine(err))
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%w%s: %w", ErrInvalid, c.in(), err)
	}
	return c, nil
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (c *Config) in() string {
	if c.file == "" {
		return ""
	}
	return " in " + c.file
}

func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "decoding failed due to the following error(s):")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), " ")
}

// decode fills c from v and refuses keys that c does not have.
func decode(v *viper.Viper, c *Config) error {
	var md mapstructure.Metadata
	hook := mapstructure.ComposeDecodeHookFunc(duration, mapstructure.StringToSliceHookFunc(","))
	if err := v.Unmarshal(c, func(dc *mapstructure.DecoderConfig) { dc.Metadata, dc.DecodeHook = &md, hook }); err != nil {
		return err
	}
	if len(md.Unused) > 0 {
		slices.Sort(md.Unused)
		key := md.Unused[0]
		return fmt.Errorf("unknown key %q, here can be %s", key, strings.Join(known(key), ", "))
	}
	return nil
}

// duration reads a duration, and refuses a number without a unit: 10 could mean
// anything.
func duration(from, to reflect.Type, value any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() || from == to {
		return value, nil
	}
	if from.Kind() == reflect.String {
		if d, err := time.ParseDuration(value.(string)); err == nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%v is not a duration: write a number with its unit, such as 10ms or 1.5s", value)
}

// known lists the keys that exist beside the given one.
func known(key string) []string {
	t := reflect.TypeFor[Config]()
	parts := strings.Split(key, ".")
	for _, part := range parts[:len(parts)-1] {
		name, _, _ := strings.Cut(part, "[")
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("mapstructure") == name {
				t = f.Type
				if t.Kind() == reflect.Slice {
					t = t.Elem()
				}
				break
			}
		}
		if t.Kind() != reflect.Struct {
			return nil
		}
	}
	var out []string
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("mapstructure"); tag != "" {
			out = append(out, tag)
		}
	}
	return out
}

func (c *Config) validate() error {
	names := map[string]bool{}
	for i := range c.Accelerators {
		a := &c.Accelerators[i]
		where := fmt.Sprintf("accelerators[%d]", i)
		if a.Name == "" {
			return fmt.Errorf("%s has no name", where)
		}
		if names[a.Name] {
			return fmt.Errorf("two accelerators are named %q", a.Name)
		}
		names[a.Name] = true
		if _, err := pairs(a.Options); err != nil {
			return fmt.Errorf("%s.options: %w", where, err)
		}
		if a.Cache != "" && a.Cache != "on" && a.Cache != "off" {
			return fmt.Errorf("%s: cache is %q, must be on or off", where, a.Cache)
		}
		if (a.Provider == runtime.EmulatedProvider) != (a.Table != "") {
			return fmt.Errorf("%s: provider is %q and table %q: emulated accelerators need a table, and only they take one", where, a.Provider, a.Table)
		}
		if a.Provider == runtime.EmulatedProvider && len(a.Options) > 0 || a.Provider != runtime.EmulatedProvider && a.Compute {
			return fmt.Errorf("%s: options are for execution providers, compute for emulated accelerators", where)
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
	if len(c.Policies) == 0 {
		return fmt.Errorf("policies is empty, have %s", strings.Join(policyNames(), ", "))
	}
	for i, p := range c.Policies {
		if slices.Contains(c.Policies[:i], p) {
			return fmt.Errorf("policy %q is listed twice", p)
		}
		if _, err := sched.FindPolicy(p); err != nil && p != runtime.Unscheduled {
			return fmt.Errorf("%w; %s takes no decisions at all", err, runtime.Unscheduled)
		}
	}
	if _, err := sched.ParseDrop(c.Drop); err != nil {
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
		return fmt.Errorf("pixels of %q: range is %v, must be 1 or 255, and std %v, must not be 0", m.Name, p.Range, p.Std)
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
		return fmt.Errorf("%q comes after %q and has a rate of its own: leave one out", m.Name, m.After)
	case m.Deadline == 0:
		return fmt.Errorf("%q comes after %q and has no rate to make a deadline from: give it a deadline", m.Name, m.After)
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
		return fmt.Errorf("traffic.arrivals is %q and traffic.trace %q: arrivals \"trace\" need a file, and only they take one", t.Arrivals, t.Trace)
	}
	if !(t.Scale > 0) || math.IsInf(t.Scale, 0) {
		return fmt.Errorf("traffic.scale is %v, must be positive", t.Scale)
	}
	if t.BurstOn <= 0 || t.BurstOff < 0 {
		return fmt.Errorf("traffic.burst_on is %v and burst_off %v: the first must be positive, the second not negative", t.BurstOn, t.BurstOff)
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

// Dimensions are the model's symbolic dimensions by name.
func (m *Model) Dimensions() (map[string]int64, error) {
	ps, err := pairs(m.Dims)
	if err != nil {
		return nil, fmt.Errorf("dims: %w", err)
	}
	out := map[string]int64{}
	for k, s := range ps {
		var n int64
		if _, err := fmt.Sscan(s, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("dims: %s=%s, must be a whole number from 1", k, s)
		}
		out[k] = n
	}
	return out, nil
}

// pairs reads a list of "key=value".
func pairs(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			return nil, fmt.Errorf("%q is not of the form key=value", s)
		}
		if _, twice := out[k]; twice {
			return nil, fmt.Errorf("%q is given twice", k)
		}
		out[k] = strings.TrimSpace(v)
	}
	return out, nil
}

// Drill are the configured faults.
func (c *Config) Drill() ([]runtime.Fault, error) {
	var out []runtime.Fault
	for _, text := range c.Faults {
		f, err := runtime.ParseFault(text)
		if err != nil {
			return nil, fmt.Errorf("faults: %w", err)
		}
		if f.Accelerator != "" && len(c.Accelerators) > 0 && !slices.ContainsFunc(c.Accelerators, func(a Accelerator) bool { return a.Name == f.Accelerator }) {
			return nil, fmt.Errorf("faults: %q: there is no accelerator %q", text, f.Accelerator)
		}
		out = append(out, f)
	}
	return out, nil
}

// Specs are the accelerators in the runtime's terms; none means automatic.
func (c *Config) Specs() []runtime.Spec {
	var out []runtime.Spec
	for _, a := range c.Accelerators {
		options, _ := pairs(a.Options) // checked by validate
		out = append(out, runtime.Spec{Name: a.Name, Provider: a.Provider, Options: options,
			Optimization: a.Optimization, Threads: a.Threads, Cores: a.Cores, Device: a.Device})
	}
	return out
}

// Path resolves a file that the configuration names, such as a model's source, to one inside root, or inside the
// configuration's folder if root is empty. A source that leads out of it, by
// its name or by a symbolic link, is refused.
func (c *Config) Path(source, root string) (string, error) {
	if root == "" {
		root = filepath.Dir(c.file)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("model folder: %w", err)
	}
	outside := fmt.Errorf("%w: %q lies outside %s: move the file there or name its folder with --models-dir", ErrInvalid, source, root)
	if filepath.IsAbs(source) {
		rel, err := filepath.Rel(root, source)
		if err != nil {
			return "", outside
		}
		source = rel
	}
	if !filepath.IsLocal(source) {
		return "", outside
	}
	path := filepath.Join(root, source)
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no file %s: correct its name, which is relative to %s", path, root)
	}
	if err != nil {
		return "", fmt.Errorf("model source: %w", err)
	}
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", fmt.Errorf("model folder: %w", err)
	}
	if rel, err := filepath.Rel(realRoot, real); err != nil || !filepath.IsLocal(rel) {
		return "", outside
	}
	return path, nil
}
