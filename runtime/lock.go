package runtime

// lock is a mutual exclusion for threads that hold it for a microsecond or two: who finds it taken spins for about as
// long, then sleeps. Unlike sync.Mutex it wakes a sleeper without the Go scheduler.
type lock struct{ state word }

const (
	unlocked  = 0
	locked    = 1
	contended = 2 // locked, and somebody may sleep

	// lockSpins is how often a taken lock is looked at before sleeping: some 2 us.
	lockSpins = 2000
)

func (l *lock) Lock() {
	if l.state.v.CompareAndSwap(unlocked, locked) {
		return
	}
	for range lockSpins {
		if l.state.v.Load() == unlocked && l.state.v.CompareAndSwap(unlocked, locked) {
			return
		}
	}
	for l.state.v.Swap(contended) != unlocked {
		l.state.wait(contended, 0)
	}
}

func (l *lock) Unlock() {
	if l.state.v.Swap(unlocked) == contended {
		l.state.wake()
	}
}
