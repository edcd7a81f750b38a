package profiler_test

import (
	"context"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// twoCores are two CPU accelerators, each on one core.
var twoCores = []runtime.Spec{{Name: "all", Cores: []int{0}}, {Name: "basic", Optimization: "basic", Cores: []int{1}}}

func resnet50() (*runtime.Network, error) { return rig.Build("resnet50", "op") }

const benchAccelerator = "PROFILER_BENCH_ACCELERATOR"

func serveBench() error {
	if _, err := runtime.Start(""); err != nil {
		return err
	}
	k, err := strconv.Atoi(os.Getenv(benchAccelerator))
	if err != nil {
		return err
	}
	n, err := resnet50()
	if err != nil {
		return err
	}
	t := profiler.Task{Accelerators: twoCores, Networks: []*runtime.Network{n}}
	return profiler.Serve(os.Stdin, profiler.Output(), t, k)
}

// BenchmarkResNet50 profiles ResNet-50 at op on two CPU accelerators twice, at the default precision within 20 s of
// measuring, and reports:
//
//	s/profile     the longer of the two, loading included; goal 30
//	%-unstable    cells that did not reach 2 %; goal 0
//	%-repeat      by how much a cell differs from one profile to the other
//	              (median cell); goal 3
//	%-additivity  by how much the sum of layers misses the chain (the worse
//	              accelerator, mean of both profiles); goal 3
//	%-noise       the noise floor that the profiles themselves state
func BenchmarkResNet50(b *testing.B) {
	orttest.Start(b)
	if len(profiler.ThisHost().AllowedCores) < 2 {
		b.Skip("it takes two cores")
	}
	n := testkit.Must(resnet50())(b)
	task := profiler.Task{Accelerators: twoCores, Networks: []*runtime.Network{n},
		Start: func(k int) (profiler.Conn, error) {
			return profiler.Start(as("bench", benchAccelerator+"="+strconv.Itoa(k)))
		}}
	for b.Loop() {
		var ps []*profiler.Profile
		var longest time.Duration
		for range 2 {
			begin := time.Now()
			p := testkit.Must(profiler.Measure(context.Background(), task, options(0)))(b)
			longest = max(longest, time.Since(begin))
			ps = append(ps, p)
		}
		unstable := 0
		var repeat []float64
		for i, c := range ps[0].Cells {
			if c.Unstable {
				unstable++
			}
			repeat = append(repeat, 100*math.Abs(float64(ps[1].Cells[i].P50)/float64(c.P50)-1))
		}
		slices.Sort(repeat)
		additivity := make([]float64, len(twoCores))
		for _, p := range ps {
			for _, c := range p.Chains {
				additivity[c.Accelerator] += 50 * (float64(c.Sum)/float64(c.Chained) - 1)
			}
		}
		worst := 0.0
		for _, x := range additivity {
			if math.Abs(x) > math.Abs(worst) {
				worst = x
			}
		}
		b.ReportMetric(longest.Seconds(), "s/profile")
		b.ReportMetric(100*float64(unstable)/float64(len(ps[0].Cells)), "%-unstable")
		b.ReportMetric(stats.Quantile(repeat, .5), "%-repeat")
		b.ReportMetric(worst, "%-additivity")
		b.ReportMetric(50*(ps[0].Noise.Median+ps[1].Noise.Median), "%-noise")
		b.ReportMetric(0, "ns/op")
		for _, x := range ps[0].Interference {
			b.Logf("%s next to %s: %+.1f %% (quartiles of layers %+.1f to %+.1f)", twoCores[x.Accelerator].Name,
				twoCores[x.Busy].Name, 100*x.Slowdown, 100*x.Q1, 100*x.Q3)
		}
		for _, x := range ps[0].Dispatches {
			b.Logf("dispatch on %s: p50 %v p99 %v", twoCores[x.Accelerator].Name, x.P50, x.P99)
		}
		for _, c := range ps[0].Chains {
			b.Logf("%s: sum %v, chain %v, whole %v (n=%d)", twoCores[c.Accelerator].Name, c.Sum, c.Chained, c.Whole, c.N)
		}
		for _, x := range ps[0].Peaks {
			b.Logf("%s: %.1f GMAC/s, copies at %.1f GB/s", twoCores[x.Accelerator].Name, x.GMACs, x.CopyGB)
		}
	}
}
