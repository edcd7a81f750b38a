package models

import (
	"runtime"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models/zoo"
)

// BenchmarkSplitOverhead runs a whole model and the chain of its layers in turn, on one core at full optimisation, and
// reports the ratio of the medians. Granularity model is the noise of the comparison: the same work on both sides.
func BenchmarkSplitOverhead(b *testing.B) {
	orttest.Start(b)
	for _, name := range zoo.Names() {
		b.Run(name, func(b *testing.B) {
			m := zooModel(b, name)
			for _, granularity := range []string{"op", "block", "model"} {
				b.Run(granularity, func(b *testing.B) { splitOverhead(b, m, granularity) })
			}
		})
	}
}

func splitOverhead(b *testing.B, m *Model, granularity string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	layers := cut(b, m, granularity)
	inputs := RandomInputs(m, 1)
	whole := testkit.Must(newWhole(m, inputs, "all"))(b)
	defer whole.close()
	chained := testkit.Must(newChain(m, layers, inputs, "all"))(b)
	defer chained.close()
	sides := []*chain{whole, chained}
	times := make([][]time.Duration, len(sides))
	b.ResetTimer()
	for round := -2; round < b.N; round++ {
		for side := range sides { // strictly in turn: each finds the other's data in the caches
			start := time.Now()
			testkit.OK(b, sides[side].run(nil))
			if round >= 0 {
				times[side] = append(times[side], time.Since(start))
			}
		}
	}
	b.ReportMetric(float64(median(times[1]))/float64(median(times[0])), "x-whole")
	b.ReportMetric(float64(len(layers)), "layers")
}
