package runtime

import "time"

// Absences are when a thread of an accelerator was ready to go on with a layer and others had its core.
type Absences struct {
	// Took is what layers lost by it in all, and Bursts how often others came: absences that follow each other closely are
	// one. Those that are shorter than a fifth of a millisecond altogether are left out, as profiles have them, too.
	Took   time.Duration
	Bursts int

	burst, last time.Duration // the present one, and when it was last seen
}

const (
	// leastBurst is the shortest burst that counts, and sameBurst how long others stay away before they have left: some
	// slices of the operating system's.
	leastBurst = 200 * time.Microsecond
	sameBurst  = 8 * time.Millisecond
	// leastAbsence is by how much a layer has to be longer than predicted, which has to be a quarter of it, too, before it
	// is looked up whether its thread was absent: that takes a microsecond.
	leastAbsence = 50 * time.Microsecond
)

// add adds an absence that ended at an instant.
func (a *Absences) add(at, took time.Duration) {
	if at-a.last-took > sameBurst {
		a.end()
	}
	a.burst, a.last = a.burst+took, at
}

// end ends the present burst.
func (a *Absences) end() {
	if a.burst >= leastBurst {
		a.Took += a.burst
		a.Bursts++
	}
	a.burst = 0
}

// Mean is the mean time that a burst took from the accelerator.
func (a *Absences) Mean() time.Duration { return a.Took / time.Duration(max(1, a.Bursts)) }

// begins says that layers follow after a rest: that the thread waited before is no absence.
func (w *worker) begins() { _, w.waited = w.times.read() }

// absent looks whether the thread was absent in a layer that took longer than predicted. What it does not explain is
// put down to the accelerator's other threads, but for first runs: those are slow by themselves.
func (w *worker) absent(cost, took, end time.Duration, first bool) {
	if took-cost < max(leastAbsence, cost/4) {
		return
	}
	_, waited := w.times.read()
	absent := min(took, waited-w.waited)
	w.waited = waited
	if absent > 0 {
		w.stats.Absent.add(end, absent)
	}
	if lost := took - cost - absent; !first && len(w.accelerator.Cores()) > 1 && Straggled(cost, lost) {
		w.stats.Straggled.add(end, lost)
	}
}

// Straggled reports whether a layer on several threads that lost so much of its time, besides what its calling thread
// was absent, waited for one of the others.
func Straggled(cost, lost time.Duration) bool { return lost >= max(leastAbsence, 2*cost/5) }
