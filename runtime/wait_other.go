//go:build !linux || portable

package runtime

import (
	"sync"
	"sync/atomic"
	"time"
)

// word is 32 bits that goroutines can wait on.
type word struct {
	v    atomic.Uint32
	once sync.Once
	bell chan struct{}
}

func (w *word) ring() chan struct{} {
	w.once.Do(func() { w.bell = make(chan struct{}, 1) })
	return w.bell
}

// wait sleeps while the word is old, for at most the time given; 0 or less
// means without end. It may return early for no reason.
func (w *word) wait(old uint32, most time.Duration) {
	if w.v.Load() != old {
		return
	}
	if most <= 0 {
		<-w.ring()
		return
	}
	select {
	case <-w.ring():
	case <-time.After(most):
	}
}

// wake wakes one that waits on the word, or the next that does.
func (w *word) wake() {
	select {
	case w.ring() <- struct{}{}:
	default:
	}
}

// sleep suspends the calling goroutine.
func sleep(d time.Duration) { time.Sleep(d) }

// sharpen does nothing: this system has no timer slack to set.
func sharpen() {}
