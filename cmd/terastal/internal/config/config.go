// Package config reads Terastal's configuration: a YAML file, TERASTAL_* environment variables and command-line flags,
// in rising precedence. Unknown keys, missing values and values out of range are errors that name the key.
package config

import (
	"errors"
	"time"
)

// ErrInvalid is wrapped by every error about the configuration itself.
var ErrInvalid = errors.New("invalid configuration")

// Config is everything a user can say about a run.
type Config struct {
	// Accelerators to use; empty means those that suit the machine and the models.
	Accelerators []Accelerator `mapstructure:"accelerators"`
	// Auto says how accelerators are chosen where none are named: AutoKeep, AutoChoose or AutoAgain.
	Auto     string   `mapstructure:"auto"`
	Models   []Model  `mapstructure:"models"`
	Traffic  Traffic  `mapstructure:"traffic"`
	Profile  Profile  `mapstructure:"profile"`
	Policies []string `mapstructure:"policies"`
	// Cost is the quantile of the measured latencies that decisions are based on: min, mean, p50, p90, p95 or p99. Adapt
	// corrects it while running towards what layers really take.
	Cost  string `mapstructure:"cost"`
	Adapt bool   `mapstructure:"adapt"`
	// Drop is when waiting requests are given up: none, late, hopeless or smart.
	Drop string `mapstructure:"drop"`
	// Queue bounds the requests of one model that are in the system at once.
	Queue int `mapstructure:"queue"`
	// Realtime is the real-time priority (SCHED_FIFO, 1 to 99) of the threads that run layers; 0 for none.
	Realtime int `mapstructure:"realtime"`
	// Retries is how often a layer that fails is run again before its request fails.
	Retries int `mapstructure:"retries"`
	// Faults make accelerators misbehave, as drills; see runtime.ParseFault.
	Faults []string `mapstructure:"faults"`
	// SaveOutputs writes the outputs of the verified requests as .npy files.
	SaveOutputs bool `mapstructure:"save_outputs"`
	// Arithmetic is what becomes of 8-bit products on this processor: exact, saturating or saturating-throughout, see
	// variants.Arithmetic, or AutoArithmetic (the default) to try.
	Arithmetic string `mapstructure:"arithmetic"`
	// Accuracy is the least mean normalised accuracy of the finished requests of every model with variants, 0 to 1, that
	// policies which spend accuracy for time keep; see sched.Model.Floor. 1 is originals only; with 0 nothing is promised
	// and variants are a last resort.
	Accuracy float64 `mapstructure:"accuracy"`
	// Out is the folder that results are written to.
	Out string `mapstructure:"out"`

	file string
	// promised says that the user gave Accuracy.
	promised bool
	// among are the names of those of the automatic accelerators that are wanted; nil for all.
	among []string
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
	// Device chooses among the devices of a provider that is a plugin. Cache is "on" (the default) where engines that the
	// provider compiles are kept from run to run, else "off".
	Device string `mapstructure:"device"`
	Cache  string `mapstructure:"cache"`
	// Streams is how many layers the device may work at, at once: a number, or "auto" for as many as pay. Each becomes an
	// accelerator: gpu.0, gpu.1 and so on. Empty is one, which keeps the accelerator's name.
	Streams string `mapstructure:"streams"`
	// KeepWarm keeps the device busy while it has nothing to do, so that it does not fall asleep.
	KeepWarm bool `mapstructure:"keep_warm"`
	// Lead is how long before the predicted end of a layer the next one may be decided; nil for what was measured.
	Lead *time.Duration `mapstructure:"lead"`
	// Table is the CSV file of an emulated accelerator's latencies, relative to
	// the configuration's folder; Compute really computes its layers, too.
	Table   string `mapstructure:"table"`
	Compute bool   `mapstructure:"compute"`

	only []int // of its streams; nil for all
}

// Model is one model with its traffic and timing.
type Model struct {
	// Name defaults to the file's or zoo network's name.
	Name string `mapstructure:"name"`
	// Source is an ONNX file, relative to the configuration's folder, or "zoo:NAME". A named model without one can only be
	// simulated, from a profile of latency tables.
	Source string `mapstructure:"source"`
	// Rate is in releases per second.
	Rate float64 `mapstructure:"rate"`
	// Deadline is relative to the release; zero means one period.
	Deadline time.Duration `mapstructure:"deadline"`
	// Granularity says how the model is split; see models.ParseGranularity.
	Granularity string `mapstructure:"granularity"`
	// After names the model whose completion releases this one, which then has
	// no arrivals itself, with the given Probability (default 1).
	After       string  `mapstructure:"after"`
	Probability float64 `mapstructure:"probability"`
	// Phase is the first release of periodic arrivals with phases "given".
	Phase time.Duration `mapstructure:"phase"`
	// Inputs names where the requests' inputs come from, relative to the configuration's folder; empty for random ones,
	// LabelledInputs for Labelled. See dataset.Spec.
	Inputs string `mapstructure:"inputs"`
	// Pixels says how images become inputs, of requests and of variants.
	Pixels Pixels `mapstructure:"pixels"`
	// Dims binds symbolic dimensions, each "name=value".
	Dims []string `mapstructure:"dims"`
	// Variants is "on" (the default) where the model's layer variants may be designed and used, else "off".
	Variants string `mapstructure:"variants"`
	// Theta is the least normalised accuracy that a combination of variants must keep; 0 is DefaultTheta. Metric is what
	// accuracy is: top-1, top-5, agreement or error, or empty for what suits the data.
	Theta  float64 `mapstructure:"theta"`
	Metric string  `mapstructure:"metric"`
	// Accuracy overrides Config.Accuracy; nil takes that.
	Accuracy *float64 `mapstructure:"accuracy"`
	// Calibration are inputs to fit variants to, Labelled ones to measure their accuracy on.
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

// Values of Config.Auto: keep the accelerators of the profile, if there is one of the same models on this machine, else
// choose; choose, by the calibration that is kept for the machine, if there is one; calibrate again and choose.
const (
	AutoKeep   = "keep"
	AutoChoose = "choose"
	AutoAgain  = "again"
)

// AutoArithmetic lets the processor's 8-bit arithmetic be tried.
const AutoArithmetic = "auto"

// DefaultTheta is the published accuracy promise.
const DefaultTheta = 0.9

// LabelledInputs is the value of Model.Inputs with which requests run on the model's labelled data, so that what they
// compute can be scored.
const LabelledInputs = "labelled"

// DefaultAccuracy is the mean accuracy that finished requests keep unless told otherwise.
const DefaultAccuracy = 0.99

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
	// Trace is the CSV file that arrivals "trace" plays, relative to the configuration's folder.
	Trace string `mapstructure:"trace"`
	// Load, if positive, scales all rates so that the demand is this share of the measured capacity.
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
