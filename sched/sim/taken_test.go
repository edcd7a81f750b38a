package sim_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// kernel is a plain machine: an accelerator's threads, each on a core, and a seeded program that wants one of the cores
// in bursts. It advances in small steps. A layer is a row of parallel regions; in each every thread has an equal part,
// the caller takes over parts that nobody has begun, and the region ends with its last part. Threads sleep between
// layers. Two that want a core have it in turns.
type kernel struct {
	rng          *rand.Rand
	threads      int
	on           int // the core that is disturbed
	burst, pause time.Duration
	slice        time.Duration

	wants, sleeps time.Duration // of the program
	theirs        bool
	turn          time.Duration // what is left of the slice
}

const step = 5 * time.Microsecond

// compute advances by a step, with or without a thread of the accelerator that wants the core, and says whether that
// ran there.
func (k *kernel) compute(wanted bool) bool {
	if k.wants <= 0 {
		if k.sleeps -= step; k.sleeps > 0 {
			return true
		}
		k.wants, k.theirs, k.turn = k.burst, true, k.exponential(k.slice)
	}
	if !wanted {
		k.theirs = true
	} else if k.turn -= step; k.turn <= 0 {
		k.theirs, k.turn = !k.theirs, k.exponential(k.slice)
	}
	if !k.theirs {
		return true
	}
	if k.wants -= step; k.wants <= 0 {
		k.theirs, k.sleeps = false, k.exponential(k.pause)
	}
	return false
}

func (k *kernel) exponential(mean time.Duration) time.Duration {
	return time.Duration(float64(mean) * k.rng.ExpFloat64())
}

// layer runs a layer of so much work for all threads together and returns how long it takes.
func (k *kernel) layer(regions int, work time.Duration) (took time.Duration) {
	part := work / time.Duration(regions)
	for range regions {
		took += k.region(part)
	}
	if k.on > 0 && k.wants > 0 && !k.theirs { // the thread sleeps
		k.theirs, k.turn = true, k.exponential(k.slice)
	}
	return took
}

func (k *kernel) region(part time.Duration) (took time.Duration) {
	left := make([]time.Duration, k.threads) // of each part
	by := make([]int, k.threads)             // who has begun it
	for i := range left {
		left[i], by[i] = part, -1
	}
	mine := func(thread int) int {
		own := func(i int) bool { return by[i] == thread && left[i] > 0 }
		for i := range left {
			if own(i) {
				return i
			}
		}
		if by[thread] < 0 {
			return thread
		}
		for i := range left {
			if by[i] < 0 && thread == 0 {
				return i
			}
		}
		return -1
	}
	for slices.Max(left) > 0 {
		ran := k.compute(mine(k.on) >= 0)
		for thread := range k.threads {
			if i := mine(thread); i >= 0 && (ran || thread != k.on) {
				by[i] = thread
				left[i] -= step
			}
		}
		took += step
	}
	return took
}

// TestStragglersAsOnAPlainMachine: the 99th percentile of layers and of requests, and the mean, with two threads on two
// cores and a seeded program on one of them, predicted from what layers take in quiet, how much of the core others take,
// and for how long.
func TestStragglersAsOnAPlainMachine(t *testing.T) {
	const layers, requests, slice = 20, 6000, 1400 * time.Microsecond
	for _, c := range []struct {
		on           int
		burst, pause time.Duration
	}{{0, 10 * time.Millisecond, 40 * time.Millisecond}, {0, 20 * time.Millisecond, 20 * time.Millisecond},
		{1, 10 * time.Millisecond, 40 * time.Millisecond}, {1, 20 * time.Millisecond, 20 * time.Millisecond}} {
		t.Run(fmt.Sprintf("core %d, %v of %v", c.on, c.burst, c.burst+c.pause), func(t *testing.T) {
			t.Parallel()
			quiet := rand.New(rand.NewPCG(3, 3))
			lengths := func() time.Duration { return time.Duration(10+quiet.IntN(6)) * 2 * step }
			k := &kernel{rng: rand.New(rand.NewPCG(1, 2)), threads: 2, on: c.on, burst: c.burst, pause: c.pause, slice: slice}
			straggling := sim.Straggling(func(time.Duration, sched.Dispatch) time.Duration { return lengths() },
				[]sim.Taken{{Threads: 2, Caller: c.on == 0, Share: float64(c.burst) / float64(c.burst+c.pause), Burst: c.burst,
					Slice: slice}}, 5)
			var real, predicted [2][]float64 // of layers and requests, in ms
			now := time.Duration(0)
			for range requests {
				var took [2]time.Duration
				for range layers {
					a := k.layer(2, lengths())
					b := straggling(now, sched.Dispatch{})
					now += b
					took[0], took[1] = took[0]+a, took[1]+b
					real[0], predicted[0] = append(real[0], a.Seconds()*1e3), append(predicted[0], b.Seconds()*1e3)
				}
				real[1], predicted[1] = append(real[1], took[0].Seconds()*1e3), append(predicted[1], took[1].Seconds()*1e3)
			}
			for i, what := range []string{"layers", "requests"} {
				slices.Sort(real[i])
				slices.Sort(predicted[i])
				for _, q := range []float64{.5, .9, .99} {
					a, b := stats.Quantile(real[i], q), stats.Quantile(predicted[i], q)
					t.Logf("%s: p%.0f %.3f ms, predicted %.3f", what, 100*q, a, b)
					if math.Abs(b-a) > .2*a && (i == 1 || q != .9) { // a tenth of layers is about as many as are slowed down
						t.Errorf("%s: p%.0f %.3f ms, predicted %.3f", what, 100*q, a, b)
					}
				}
			}
		})
	}
}

// TestStragglers: layers take no less than alone, the same seed gives the same times, accelerators of which nothing is
// taken are left alone, and a caller that always computes loses what the pauses leave to others.
func TestStragglers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := sim.Taken{Accelerator: 1, Threads: rapid.IntRange(1, 4).Draw(t, "threads"), Caller: true,
			Share: rapid.Float64Range(.05, .9).Draw(t, "share"),
			Burst: time.Duration(rapid.IntRange(100, 20000).Draw(t, "burst")) * time.Microsecond,
			Slice: time.Duration(rapid.IntRange(100, 4000).Draw(t, "slice")) * time.Microsecond}
		if c.Threads > 1 {
			c.Caller = rapid.Bool().Draw(t, "caller")
		}
		testkit.OK(t, c.Check(2))
		seed := rapid.Uint64().Draw(t, "seed")
		work := time.Duration(rapid.IntRange(1, 5000).Draw(t, "work")) * time.Microsecond
		idle := time.Duration(rapid.IntRange(0, 1).Draw(t, "idle")) * 3 * time.Millisecond
		of := func(time.Duration, sched.Dispatch) time.Duration { return work }
		one, two := sim.Straggling(of, []sim.Taken{c}, seed), sim.Straggling(of, []sim.Taken{c}, seed)
		now := time.Duration(0)
		for range 200 {
			a, b := one(now, sched.Dispatch{Accelerator: 1}), two(now, sched.Dispatch{Accelerator: 1})
			if a < work || a != b {
				t.Fatalf("%v and %v, alone %v", a, b, work)
			}
			if other := one(now, sched.Dispatch{}); other != work {
				t.Fatalf("another accelerator takes %v, alone %v", other, work)
			}
			now += a + idle
		}
	})
	const work, burst = time.Millisecond, 4 * time.Millisecond
	d := sim.Straggling(func(time.Duration, sched.Dispatch) time.Duration { return work },
		[]sim.Taken{{Threads: 1, Caller: true, Share: .2, Burst: burst, Slice: time.Millisecond}}, 1)
	now := time.Duration(0)
	for range 100_000 {
		now += d(now, sched.Dispatch{})
	}
	// Between pauses of 16 ms others compute 4 ms, and so does the caller, less what is left of its last slice.
	if lost := 1 - 1e5*work.Seconds()/now.Seconds(); math.Abs(lost-4./(16+8)) > .02 {
		t.Errorf("lost %.3f", lost)
	}
}

func TestTakenThatCannotBe(t *testing.T) {
	good := sim.Taken{Threads: 2, Share: .5, Burst: time.Millisecond, Slice: time.Millisecond}
	testkit.OK(t, good.Check(1))
	for _, c := range []struct {
		change func(*sim.Taken)
		says   string
	}{
		{func(x *sim.Taken) { x.Accelerator = 1 }, "accelerator 1, need one from 0 to 0"},
		{func(x *sim.Taken) { x.Threads = 1 }, "of 1 threads"},
		{func(x *sim.Taken) { x.Share = 1 }, "share 1"},
		{func(x *sim.Taken) { x.Share = math.NaN() }, "share NaN"},
		{func(x *sim.Taken) { x.Burst = 1 }, "bursts of 1ns"},
		{func(x *sim.Taken) { x.Slice = 0 }, "slices of 0s"},
	} {
		x := good
		c.change(&x)
		testkit.Says(t, x.Check(1), c.says)
	}
}
