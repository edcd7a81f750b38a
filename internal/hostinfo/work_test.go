package hostinfo

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestWork: what a core did, by whom, told from two readings.
func TestWork(t *testing.T) {
	thread := func(m fstest.MapFS, at, name, ran, waited, core, allowed string) {
		m["proc/"+at+"/schedstat"] = &fstest.MapFile{Data: []byte(ran + " " + waited + " 6\n")}
		m["proc/"+at+"/stat"] = &fstest.MapFile{Data: []byte("7 (" + name + ") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 " +
			"19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 " + core + " 0 0\n")}
		m["proc/"+at+"/status"] = &fstest.MapFile{Data: []byte("Name:\t" + name + "\nCpus_allowed_list:\t" + allowed +
			"\nvoluntary_ctxt_switches:\t9\n")}
	}
	machine := func(stat string, f func(fstest.MapFS)) Work {
		m := fstest.MapFS{"proc/stat": {Data: []byte(stat)}, "proc/self/stat": {Data: []byte("7 (us) S 1\n")}}
		f(m)
		return ReadWork(Machine{Root: m})
	}
	before := machine("cpu 1 1 1 1 1 1 1 1\ncpu0 10 0 0 9 9 0 0 3\ncpu1 10 0 0 9 9 0 0 0\nintr 1\n", func(m fstest.MapFS) {
		thread(m, "7/task/7", "us", "100", "1", "0", "0-1")
		thread(m, "7/task/8", "us", "1000", "1", "0", "0")
		thread(m, "9/task/9", "a) b", "50", "5", "1", "0-1")
		thread(m, "11/task/11", "gone", "50", "5", "1", "1")
		thread(m, "12/task/12", "was", "500", "9", "1", "1")
	})
	after := machine("cpu 1 1 1 1 1 1 1 1\ncpu0 60 0 0 9 9 0 0 13\ncpu1 40 0 0 9 9 0 0 0\n", func(m fstest.MapFS) {
		thread(m, "7/task/7", "us", "10000100", "101", "0", "0-1")
		thread(m, "7/task/8", "us", "300001000", "9", "0", "0")
		thread(m, "9/task/9", "a) b", "200000050", "20000005", "1", "1")
		thread(m, "10/task/10", "new", "20000000", "90000000", "1", "0-1")
		thread(m, "12/task/12", "other", "7", "3", "1", "1")
	})
	ms := time.Millisecond
	got := after.Since(before)
	want := []CoreWork{
		{Core: 0, Busy: 500 * ms, Stolen: 100 * ms, Own: 300 * ms, Others: []OtherWork{{"us", true, 10 * ms, 100}}},
		{Core: 1, Busy: 300 * ms, Others: []OtherWork{{"a) b", false, 200 * ms, 20 * ms}, {"new", false, 20 * ms, 90 * ms},
			{"other", false, 7, 3}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if taken := got[0].Taken(); taken != 300*ms {
		t.Errorf("taken %v", taken)
	}
	if taken := got[1].Taken(); taken != 280*ms { // the new thread gave way
		t.Errorf("taken %v", taken)
	}
	if none := (Work{}).Since(Work{}); none != nil {
		t.Error(none)
	}
}

// TestDamagedWork: what cannot be read is left out.
func TestDamagedWork(t *testing.T) {
	m := fstest.MapFS{"proc/stat": {Data: []byte("cpux 1 2\ncpu0 1\n\xff")}, "proc/5/task/5/schedstat": {Data: []byte("x")},
		"proc/6/task/6/schedstat": {Data: []byte("1 2 3")}, "proc/6/task/6/stat": {Data: []byte("6 (x) S 1")},
		"proc/task": {Data: []byte("")}}
	w := ReadWork(Machine{Root: m})
	if len(w.threads) != 0 || len(w.cores) != 1 || w.cores[0] != (coreTimes{}) {
		t.Errorf("%+v", w)
	}
}

func TestSlice(t *testing.T) {
	for cores, want := range map[int]time.Duration{1: 700, 2: 1400, 4: 2100, 8: 2800, 64: 2800} {
		if got := Slice(cores); got != want*time.Microsecond {
			t.Errorf("%d cores: %v", cores, got)
		}
	}
}

func BenchmarkReadWork(b *testing.B) {
	for b.Loop() {
		ReadWork(This())
	}
}
