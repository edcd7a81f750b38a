package hostinfo

import (
	"cmp"
	"io/fs"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Work is what every core and every thread of the machine have done up to an instant. The zero value is of systems
// that do not tell, which are all but Linux.
type Work struct {
	cores   map[int]coreTimes
	threads map[threadID]threadWork
}

type coreTimes struct{ busy, steal time.Duration }

type threadID struct{ process, thread int }

type threadWork struct {
	name   string
	own    bool // of this process
	pinned bool // to the core
	core   int  // where it ran last
	ran    time.Duration
	waited time.Duration // ready to run
}

// CoreWork is what one core did between two instants.
type CoreWork struct {
	Core int
	// Busy is for how long it worked, whoever for, as sampled some hundred times a second; Stolen is what a hypervisor
	// gave to other machines meanwhile.
	Busy, Stolen time.Duration
	// Own is for how long threads of this process ran that are pinned to the core.
	Own time.Duration
	// Others are the other threads by the name of their program, those that ran longest first. Where a thread ran is known
	// from where it was last.
	Others []OtherWork
}

// OtherWork is what threads of a name did on a core.
type OtherWork struct {
	Name string
	// Own says that they are this process's.
	Own bool
	// Ran is for how long they ran, and Waited how long they were ready to run and did not.
	Ran, Waited time.Duration
}

// ReadWork reads what cores and threads of a machine have done. It never fails: what cannot be read is left out. It
// takes some 50 us for every thread of the machine.
func ReadWork(m Machine) Work {
	w := Work{map[int]coreTimes{}, map[threadID]threadWork{}}
	stat, _ := fs.ReadFile(m.Root, "proc/stat")
	for line := range strings.Lines(string(stat)) {
		name, rest, _ := strings.Cut(line, " ")
		number, ok := strings.CutPrefix(name, "cpu")
		if core, err := strconv.Atoi(number); ok && err == nil && core >= 0 {
			var c coreTimes
			c.busy, c.steal = times(rest)
			w.cores[core] = c
		}
	}
	own, _, _ := strings.Cut(m.line("proc/self/stat"), " ")
	for _, process := range m.numbers("proc") {
		folder := "proc/" + strconv.Itoa(process) + "/task"
		for _, thread := range m.numbers(folder) {
			if t, ok := m.thread(folder + "/" + strconv.Itoa(thread)); ok {
				t.own = strconv.Itoa(process) == own
				w.threads[threadID{process, thread}] = t
			}
		}
	}
	return w
}

// numbers are the entries of a folder that are numbers.
func (m Machine) numbers(folder string) (list []int) {
	entries, _ := fs.ReadDir(m.Root, folder)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 {
			list = append(list, n)
		}
	}
	return list
}

// processor is the place of the last core among the fields of a thread's stat that follow the name.
const processor = 36

// thread reads a thread's folder; false where it has gone or the system does not count what threads run.
func (m Machine) thread(folder string) (t threadWork, ok bool) {
	ran, rest, found := strings.Cut(m.line(folder+"/schedstat"), " ")
	waited, _, _ := strings.Cut(rest, " ")
	stat := m.line(folder + "/stat")
	_, named, _ := strings.Cut(stat, "(")
	end := strings.LastIndex(named, ")")
	if !found || end < 0 {
		return t, false
	}
	fields := strings.Fields(named[end+1:])
	if len(fields) <= processor {
		return t, false
	}
	t.name, t.core = named[:end], int(natural(fields[processor]))
	t.ran, t.waited = time.Duration(natural(ran)), time.Duration(natural(waited))
	status, _ := fs.ReadFile(m.Root, folder+"/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		if key == "Cpus_allowed_list" {
			_, err := strconv.Atoi(strings.TrimSpace(value))
			t.pinned = err == nil
		}
	}
	return t, true
}

// Since is what every core did since an earlier reading, by number; nil where the system does not tell.
func (w Work) Since(earlier Work) []CoreWork {
	type key struct {
		core int
		name string
		own  bool
	}
	all := map[key]*OtherWork{}
	pinned := map[int]time.Duration{}
	for id, t := range w.threads {
		was := earlier.threads[id]
		if was.name != t.name || was.ran > t.ran { // the number is another thread's now
			was = threadWork{}
		}
		switch at := (key{t.core, t.name, t.own}); {
		case t.own && t.pinned:
			pinned[t.core] += t.ran - was.ran
		case t.ran > was.ran:
			if all[at] == nil {
				all[at] = &OtherWork{Name: t.name, Own: t.own}
			}
			all[at].Ran += t.ran - was.ran
			all[at].Waited += t.waited - was.waited
		}
	}
	var out []CoreWork
	for _, core := range slices.Sorted(maps.Keys(w.cores)) {
		now, was := w.cores[core], earlier.cores[core]
		c := CoreWork{Core: core, Busy: max(0, now.busy-was.busy), Stolen: max(0, now.steal-was.steal), Own: pinned[core]}
		for at, o := range all {
			if at.core == core {
				c.Others = append(c.Others, *o)
			}
		}
		slices.SortFunc(c.Others, func(a, b OtherWork) int {
			return cmp.Or(cmp.Compare(b.Ran, a.Ran), cmp.Compare(a.Name, b.Name))
		})
		out = append(out, c)
	}
	return out
}

// GaveWay reports whether they waited so much longer than they ran that they took little from others: their priority is
// lower.
func (o *OtherWork) GaveWay() bool { return o.Waited > 4*o.Ran }

// Taken is what a hypervisor and others, those that gave way excepted, took of the core.
func (c *CoreWork) Taken() time.Duration {
	others := c.Busy - c.Own
	for i := range c.Others {
		if o := &c.Others[i]; o.GaveWay() {
			others -= o.Ran
		}
	}
	return c.Stolen + max(0, others)
}

// Slice is for how long, about, Linux lets a thread compute before it is the turn of another one that wants the same
// core, on a machine of so many.
func Slice(cores int) time.Duration {
	return time.Duration(bits.Len(uint(min(max(1, cores), 8)))) * 700 * time.Microsecond
}
