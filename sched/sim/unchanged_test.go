package sim_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// unchanged are checksums of logs of systems without devices and accuracy floors, by policy, from before there were
// any. Younger policies have none.
var unchanged = map[string]string{
	"fcfs":                "052382b5e96ed055",
	"edf":                 "b454f4c8cf209f8f",
	"llf":                 "c7ee21b31138c108",
	"heft":                "a1c292fd160fc73f",
	"dream":               "0878542f3f41167e",
	"terastal":            "a7ad763fa8061083",
	"terastal-novariants": "9436e1e28f13edc7",
	"terastal-nobudgets":  "3bbccce5dc826ffa",
	"pedf":                "50eb7a355e202b32",
	"rollout":             "d4abe6ca98f670d8",
}

// TestUnchanged: what accelerators share concerns nobody who has no devices. Logs are the same to the byte.
func TestUnchanged(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("policies compute in floating point, which other processors round otherwise")
	}
	for _, p := range policy.All() {
		sum := sha256.New()
		for i, sys := range []sched.System{schedtest.Workload(4, 3), schedtest.Workload(2, 1)} {
			sys.Models[4].Trigger = &sched.Trigger{Parent: sys.Models[0].Name, Probability: 0.5}
			arrive := traffic.Config{Process: traffic.Poisson, Duration: 200 * time.Millisecond, Seed: 3}
			for m := range sys.Models {
				arrive.Rates = append(arrive.Rates, float64(2-i)/sys.Models[m].Deadline.Seconds())
			}
			arrive.Rates[4] = 0
			cfg := config(t, sys, p.Name)
			cfg.Arrivals = testkit.Must(arrive.Arrivals())(t)
			cfg.Engine.Drop, cfg.Engine.Adapt = sched.DropLate, i == 0
			truth := schedtest.Compile(t, sys)
			cfg.Duration = func(at time.Duration, d sched.Dispatch) time.Duration {
				return truth.Cost(d) * (90 + time.Duration(d.Job*7+int64(d.Layer))%23) / 100
			}
			testkit.Must(sim.Run(cfg))(t)
			sum.Write(testkit.Must(json.Marshal(cfg.Engine.Recorder))(t))
		}
		want, known := unchanged[p.Name]
		if !known {
			continue // younger
		}
		if got := hex.EncodeToString(sum.Sum(nil)[:8]); got != want {
			t.Errorf("%q: %q,", p.Name, got)
		}
	}
}
