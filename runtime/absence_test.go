package runtime

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Absences that follow each other closely are one burst, and those that are short altogether none.
func TestAbsences(t *testing.T) {
	const ms = time.Millisecond
	var a Absences
	for _, x := range []struct{ at, took time.Duration }{{10 * ms, 3 * ms}, {16 * ms, 2 * ms}, {100 * ms, 100 * time.Microsecond},
		{200 * ms, 5 * ms}, {202 * ms, time.Microsecond}} {
		a.add(x.at, x.took)
	}
	a.end()
	a.end()
	if a.Bursts != 2 || a.Took != 10*ms+time.Microsecond || a.Mean() != a.Took/2 {
		t.Errorf("%+v", a)
	}
	if (&Absences{}).Mean() != 0 {
		t.Error("nothing has a mean")
	}
}

// schedstat is what the system says of the calling thread, zero where it says nothing.
func schedstat() (ran, waited time.Duration) {
	data, _ := os.ReadFile("/proc/thread-self/schedstat")
	fmt.Sscan(string(data), &ran, &waited)
	return ran, waited
}

// What a thread ran and waited is read without allocating, and is what the system says of the calling thread.
func TestThreadTimes(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		lockThread()
		var times threadTimes
		if ran, waited := times.read(); ran != 0 || waited != 0 {
			t.Error("times that nobody opened")
		}
		times.open()
		defer times.close()
		ranBefore, before := schedstat()
		ran, got := times.read()
		ranAfter, after := schedstat()
		if got < before || got > after {
			t.Errorf("waited %v, between %v and %v", got, before, after)
		}
		if ran < ranBefore || ran > ranAfter {
			t.Errorf("ran %v, between %v and %v", ran, ranBefore, ranAfter)
		}
		if n := testing.AllocsPerRun(100, func() { times.read() }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}()
	<-done
}

// What layers lose counts where threads of the accelerator can have been waited for, first runs excepted.
func TestAbsent(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		cores []int
		took  time.Duration
		first bool
		want  time.Duration
	}{
		{[]int{0, 1}, 3 * ms, false, 2 * ms},
		{[]int{0, 1}, 3 * ms, true, 0},
		{[]int{0, 1}, 5 * ms / 4, false, 0},
		{[]int{0}, 3 * ms, false, 0},
	} {
		w := &worker{accelerator: nothing{c.cores}} // whose thread's times nobody reads
		w.absent(ms, c.took, time.Second, c.first)
		w.stats.Straggled.end()
		if got := w.stats.Straggled.Took; got != c.want || w.stats.Absent.Took != 0 {
			t.Errorf("%+v: lost %v", c, got)
		}
	}
}

// Layers that lost much by themselves straggle; short ones that lost little do not.
func TestStraggled(t *testing.T) {
	for _, c := range []struct {
		cost, lost time.Duration
		want       bool
	}{{100, 49, false}, {100, 50, true}, {1000, 399, false}, {1000, 400, true}} {
		if got := Straggled(c.cost*time.Microsecond, c.lost*time.Microsecond); got != c.want {
			t.Errorf("%d of %d: %v", c.lost, c.cost, got)
		}
	}
}
