package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
)

// flag is a flag that overrides a key of the file. Its default, which is the
// configuration's too, says of what type it is.
type flag struct {
	name, key string
	value     any
	usage     string
}

// repeated is the default of a flag that may be repeated and whose values may hold commas.
type repeated []string

// flags are all flags that AddFlags can define.
func flags() []flag {
	names := strings.Join(policyNames(), ", ")
	return []flag{
		{"duration", "traffic.duration", 10 * time.Second, "how long requests are released"},
		{"seed", "traffic.seed", uint64(1), "seed of arrivals and inputs"},
		{"load", "traffic.load", 0.0, "scale all rates to this share of the measured capacity (0: rates as given)"},
		{"arrivals", "traffic.arrivals", "periodic",
			"arrival process: periodic, poisson, bursts, closed (one request of each model at a time) or trace"},
		{"scale", "traffic.scale", 1.0, "factor on all rates; deadlines stay"},
		{"burst-on", "traffic.burst_on", 200 * time.Millisecond, "mean length of bursts"},
		{"burst-off", "traffic.burst_off", 200 * time.Millisecond, "mean time between bursts"},
		{"trace", "traffic.trace", "", `CSV file of model,release_us that arrivals "trace" plays`},
		{"cost", "cost", "p50", "quantile of the measured latencies that decisions are based on: " +
			"min, mean, p50, p90, p95 or p99"},
		{"adapt", "adapt", false, "correct predictions while running towards what layers really take"},
		{"phases", "traffic.phases", "random",
			"phases of periodic arrivals: random, aligned, or given (by the models' phase)"},
		{"jitter", "traffic.jitter", 0.0, "periodic releases are late by up to this share of their period"},
		{"policies", "policies", []string{"fifo", "edf", "terastal", "pedf"},
			"scheduling policies, separated by commas: " + names + "; each also as NAME-model, for whole models; " +
				runtime.Unscheduled + ": ordinary sessions, each model where it is fastest, started at release; " +
				runtime.UnscheduledCPU + ": the same on the CPU"},
		{"drop", "drop", "late", "when waiting requests are given up: none, late, hopeless or smart"},
		{"queue", "queue", sched.DefaultQueue, "most requests of one model in the system at once"},
		{"realtime", "realtime", 0, "real-time priority of the threads that run layers, 1 to 99 (0: none)"},
		{"retries", "retries", 0, "how often a layer that fails is run again before its request fails"},
		{"faults", "faults", repeated(nil), "drill: make accelerators misbehave, such as " +
			`"error accelerator=gpu p=0.01" or "hang after=500 times=1" (may be repeated)`},
		{"save-outputs", "save_outputs", false, "write the outputs of the verified requests to OUT/outputs, as .npy files"},
		{"accuracy", "accuracy", DefaultAccuracy, "accuracy floor: the least mean accuracy of a model's finished requests, as a " +
			"share of the original's, that pedf, rollout and terastal-budget keep (1: originals only; 0: none, variants are a last " +
			"resort)"},
		{"out", "out", "out", "folder that results are written to"},
		{"budget", "profile.budget", 20 * time.Second, "time to measure layers for"},
		{"precision", "profile.precision", 0.02,
			"half-width of the median's 95 % confidence interval to reach, as a share of it"},
		{"auto", "auto", AutoKeep, "where no accelerators are named: keep those of the profile that is there, choose (by a " +
			"calibration, kept per machine), or calibrate again"},
		{"arithmetic", "arithmetic", AutoArithmetic, "what becomes of 8-bit products on this processor: " +
			"auto (try), exact, saturating or saturating-throughout"},
	}
}

// AddFlags defines the named flags, each of which overrides a key of the file;
// the defaults shown are those of the configuration.
func AddFlags(f *pflag.FlagSet, names ...string) {
	all := flags()
	for _, n := range names {
		i := slices.IndexFunc(all, func(x flag) bool { return x.name == n })
		if i < 0 {
			panic("config: no flag " + n)
		}
		all[i].add(f)
	}
}

func (x *flag) add(f *pflag.FlagSet) {
	switch v := x.value.(type) {
	case time.Duration:
		f.Duration(x.name, v, x.usage)
	case uint64:
		f.Uint64(x.name, v, x.usage)
	case float64:
		f.Float64(x.name, v, x.usage)
	case int:
		f.Int(x.name, v, x.usage)
	case bool:
		f.Bool(x.name, v, x.usage)
	case string:
		f.String(x.name, v, x.usage)
	case []string:
		f.StringSlice(x.name, v, x.usage)
	case repeated:
		f.StringArray(x.name, v, x.usage)
	default:
		panic(fmt.Sprintf("config: flag %s is a %T", x.name, v))
	}
	f.SetAnnotation(x.name, ofConfig, nil)
}

// ofConfig marks the flags that AddFlags defines: a verb may use the same name for something else.
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

func policyNames() []string {
	var out []string
	for _, p := range policy.All() {
		out = append(out, p.Name)
	}
	return out
}
