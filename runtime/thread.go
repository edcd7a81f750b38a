package runtime

import (
	"fmt"
	goruntime "runtime"
)

// thread is the OS thread of an accelerator, from when the executor is made until it is closed. All that its provider
// does happens on it, since providers keep handles and plans for every thread that calls them: what was done once
// before a run costs nothing in it.
type thread struct {
	id     int
	err    error // why it is not where it should be
	work   chan func()
	closed chan struct{} // it has ended
}

// newThread starts the thread of an accelerator.
func newThread(a Accelerator) *thread {
	t := startThread()
	t.do(func() {
		t.id = threadID()
		if err := Pin(a.Cores()); err != nil {
			t.err = fmt.Errorf("accelerator %q: %w", a.Name(), err)
		}
		sharpen()
	})
	return t
}

// startThread starts a thread with nothing about it changed.
func startThread() *thread {
	t := &thread{work: make(chan func(), 1), closed: make(chan struct{})}
	go func() {
		defer close(t.closed)
		lockThread()
		for f := range t.work {
			f()
		}
	}()
	return t
}

// start has the thread do something after what it does.
func (t *thread) start(f func()) { t.work <- f }

// do returns when the thread has done it.
func (t *thread) do(f func()) {
	done := make(chan struct{})
	t.start(func() {
		defer close(done)
		f()
	})
	<-done
}

// lockThread ties the goroutine to its thread for ever: the thread, which may be pinned, ends with it.
func lockThread() { goruntime.LockOSThread() }
