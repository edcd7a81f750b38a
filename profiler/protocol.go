package profiler

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// A measuring process and the measurement that it serves exchange JSON, one message per line: a request, then any
// number of notices and one answer.

// activity is what a place is about.
type activity string

const (
	layerRun   activity = "layer"    // one implementation of a layer
	conversion activity = "convert"  // a tensor into another layout
	upload     activity = "upload"   // a tensor to the accelerator's own memory
	download   activity = "download" // a tensor from there
	chainRun   activity = "chain"    // all layers of a model, one after the other
	plainRun   activity = "plain"    // the same, none of them captured as a graph, where some are
	wholeRun   activity = "whole"    // a session that has the whole model
	graphRun   activity = "graph"    // the same, captured as one graph
)

// model reports whether it is about a whole model.
func (a activity) model() bool {
	return a == chainRun || a == plainRun || a == wholeRun || a == graphRun
}

// follows reports whether it is submitted to a device behind other work: a download is waited for.
func (a activity) follows() bool { return a == layerRun || a == upload }

// place is something that is timed.
type place struct {
	Do             activity `json:"do"`
	Model          int      `json:"model"`
	Layer          int      `json:"layer,omitempty"`
	Implementation int      `json:"implementation,omitempty"`
	Tensor         int      `json:"tensor,omitempty"`
}

// What a measuring process can be asked to do.
const (
	askLoad     = "load"     // everything but what is skipped: loading and loaded notices, then the places
	askReady    = "ready"    // capture what can be captured as graphs: the places, more of them
	askRun      = "run"      // the places, in order: their times
	askBusy     = "busy"     // the places over and over, until the next request: a beginning
	askRest     = "rest"     // end that
	askDispatch = "dispatch" // the real executor for a while: times between layers
	askPeak     = "peak"     // the roofline
	askDevice   = "device"   // what the device's streams have in common
	askStreams  = "streams"  // how many requests per second 1, 2, 4 ... streams get done
	askHalt     = "halt"     // end what is being done after the current place; has no answer
)

type request struct {
	Ask    string        `json:"ask"`
	Skip   []failure     `json:"skip,omitempty"`
	Places []int         `json:"places,omitempty"`
	For    time.Duration `json:"for_ns,omitempty"`
	// Streams is how many other streams of the device are busy meanwhile, or how many are tried at most.
	Streams int `json:"streams,omitempty"`
	// Lead is the device's, for the real executor.
	Lead time.Duration `json:"lead_ns,omitempty"`
}

// failure is a place that failed, or that took the process with it, and why.
type failure struct {
	place
	Reason string `json:"reason"`
}

// loaded tells what loading a cell took.
type loaded struct {
	place
	Took    time.Duration `json:"took_ns"`
	Memory  int64         `json:"memory_bytes"`
	Refused string        `json:"refused,omitempty"`
}

// move lists the tensors that an accelerator converts and copies before a layer when accelerator From ran those before
// it and To runs the layer.
type move struct {
	Model    int   `json:"model"`
	Layer    int   `json:"layer"`
	From     int   `json:"from"`
	To       int   `json:"to"`
	Convert  []int `json:"convert,omitempty"`
	Upload   []int `json:"upload,omitempty"`
	Download []int `json:"download,omitempty"`
}

// tensors lists them by what is done to them.
func (m move) tensors() map[activity][]int {
	return map[activity][]int{conversion: m.Convert, upload: m.Upload, download: m.Download}
}

type reply struct {
	// Notices.
	Loading *place  `json:"loading,omitempty"`
	Loaded  *loaded `json:"loaded,omitempty"`
	// Answers.
	Done   bool     `json:"done,omitempty"`
	Places []place  `json:"places,omitempty"`
	Models []string `json:"models,omitempty"` // SHA-256 of those loaded
	// Moves are what changes from and to other accelerators need.
	Moves []move          `json:"moves,omitempty"`
	Times []time.Duration `json:"times_ns,omitempty"`
	// Failed says why the place after those in Times failed.
	Failed string `json:"failed,omitempty"`
	Peak   *Peak  `json:"peak,omitempty"`
	// Apart is true of an accelerator with memory of its own, Events if layers are timed on the device's clock; Device is
	// what its streams have in common.
	Apart  bool    `json:"apart,omitempty"`
	Events bool    `json:"events,omitempty"`
	Device *Device `json:"device,omitempty"`
	// Captured is how many layers are captured as graphs, by model.
	Captured []int `json:"captured,omitempty"`
	// Rates are requests per second on 1, 2, 4 ... streams.
	Rates []float64 `json:"rates,omitempty"`
	// Error says why the process can do nothing at all.
	Error string `json:"error,omitempty"`
}

// maxMessage bounds a line.
const maxMessage = 64 << 20

// lines writes and reads messages.
type lines struct {
	w *bufio.Writer
	r *bufio.Scanner
}

func newLines(r io.Reader, w io.Writer) *lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxMessage)
	return &lines{bufio.NewWriter(w), s}
}

func (l *lines) write(message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	l.w.Write(data)
	l.w.WriteByte('\n')
	return l.w.Flush()
}

func (l *lines) read(message any) error {
	if !l.r.Scan() {
		if err := l.r.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	if err := json.Unmarshal(l.r.Bytes(), message); err != nil {
		return fmt.Errorf("measuring process: not a message: %w: %.80q", err, l.r.Bytes())
	}
	return nil
}

// receive reads messages until there are no more, and says why, or nobody listens. Those that handled takes are not
// passed on.
func receive[T any](l *lines, to chan<- T, quit <-chan struct{}, handled func(T) bool) error {
	defer close(to)
	for {
		var message T
		if err := l.read(&message); err != nil {
			return err
		}
		if handled(message) {
			continue
		}
		select {
		case to <- message:
		case <-quit:
			return nil
		}
	}
}
