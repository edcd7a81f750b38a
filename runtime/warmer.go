package runtime

import (
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

// WarmEvery is how often an idle device that is kept warm gets something to do.
const WarmEvery = 300 * time.Microsecond

// Warmer keeps a device from resting while it is idle: it copies a few bytes now and then.
type Warmer struct {
	memory   Memory
	buffer   Buffer
	from, to *Tensor
	event    Event // after the last copy; nil where there are none
	busy     bool
}

// NewWarmer is called by the thread that runs the accelerator's kernels, and so are the methods.
func NewWarmer(m Memory) (*Warmer, error) {
	info := models.Tensor{Name: "warm", Type: ort.Int32, Shape: []int64{16}}
	from, err := NewTensor(info, make([]byte, info.Bytes()))
	if err != nil {
		return nil, err
	}
	w := &Warmer{memory: m, from: from, to: &Tensor{Tensor: info, memory: m}}
	if err = w.from.flatten(); err == nil {
		w.buffer, err = m.NewBuffer(int(info.Bytes()))
	}
	if err == nil {
		if err = w.buffer.Bind(w.to); err == nil {
			w.event, err = m.NewEvent()
		}
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// sooner is until, or when the device is to be touched if that is earlier. A nil warmer keeps nothing warm.
func (w *Warmer) sooner(until, now time.Duration) time.Duration {
	if w == nil {
		return until
	}
	return min(until, now+WarmEvery)
}

// Touch gives the device something to do, unless it has not done the last yet.
func (w *Warmer) Touch() {
	if w == nil {
		return
	}
	if w.busy {
		if done, err := w.event.Done(); !done && err == nil {
			return
		}
	}
	// A device that fails says so when a layer runs.
	if w.memory.Copy(w.from, w.to) == nil && w.event != nil {
		w.busy = w.event.Record() == nil
	}
}

// Close waits for what the device does yet. A nil Warmer is fine.
func (w *Warmer) Close() {
	if w == nil {
		return
	}
	_ = w.memory.Wait()
	if w.event != nil {
		w.event.Close()
	}
	w.to.Close()
	if w.buffer != nil {
		w.buffer.Close()
	}
	w.from.Close()
}
