// Package auto chooses accelerators for the models of a configuration that names none, from a short calibration: which
// accelerators are to be measured at the same time, what was found, kept per machine, and the set of accelerators with
// the highest capacity by the fluid bound. It is for package session, which measures, and for doctor, which shows what
// was found. It measures nothing itself.
package auto

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

const (
	kind    = "terastal-calibration"
	version = 1
	// maxKept is how many calibrations are kept; the oldest go.
	maxKept = 32
)

// Calibration is what was found out about accelerators for some models on a machine.
type Calibration struct {
	Created string        `json:"created"` // RFC 3339
	Took    time.Duration `json:"took_ns"` // all of it, loading included
	CPU     string        `json:"cpu"`
	ORT     string        `json:"onnxruntime"`
	// Cores are those that may be used, by kind.
	Cores [][]int `json:"cores"`
	// GPUs are the providers that a GPU opens with.
	GPUs       []string    `json:"gpu_providers,omitempty"`
	Models     []Model     `json:"models"`
	Candidates []Candidate `json:"candidates"`
	// Choice is what was chosen last; nil if nothing was.
	Choice *Choice `json:"choice,omitempty"`

	key string
}

// Model is one that layers were measured of.
type Model struct {
	Name   string   `json:"name"`
	SHA256 string   `json:"sha256"`
	Layers []string `json:"layers"`
}

// Candidate is an accelerator that was measured while the others of its company worked.
type Candidate struct {
	Accelerator runtime.Spec `json:"accelerator"`
	// Company numbers what was measured at the same time.
	Company int `json:"company"`
	profiler.Brief
}

// New is a calibration of which nothing has been measured. cores are those that may be used, by kind; gpus the providers
// that a GPU opens with.
func New(host hostinfo.Info, ortVersion string, cores [][]int, gpus []string, networks []*runtime.Network) *Calibration {
	c := &Calibration{CPU: host.CPU, ORT: ortVersion, Cores: cores, GPUs: gpus}
	h := sha256.New()
	e := json.NewEncoder(h)
	e.Encode([]any{version, host.Fingerprint(), ortVersion, cores, gpus})
	for _, n := range networks {
		m := Model{Name: n.Name, SHA256: n.Model.SHA256()}
		for l := range n.Layers {
			m.Layers = append(m.Layers, n.Layers[l].Name)
			e.Encode(n.Layers[l].SHA256)
		}
		c.Models = append(c.Models, m)
		e.Encode(m)
	}
	c.key = fmt.Sprintf("%x", h.Sum(nil)[:16])
	return c
}

// Add takes what was measured of a company, in the order of its accelerators.
func (c *Calibration) Add(company []runtime.Spec, found []profiler.Brief, took time.Duration) {
	n := 0
	if len(c.Candidates) > 0 {
		n = c.Candidates[len(c.Candidates)-1].Company + 1
	}
	for i, s := range company {
		c.Candidates = append(c.Candidates, Candidate{Accelerator: s, Company: n, Brief: found[i]})
	}
	c.Took += took
}

// Load takes what was measured before, and is kept in the folder; false where there is nothing.
func (c *Calibration) Load(folder string) bool {
	var old Calibration
	if folder == "" || document.Read(c.path(folder), kind, version, &old) != nil || old.check() != nil {
		return false
	}
	old.key = c.key
	*c = old
	return true
}

// check says what is wrong with a calibration that was read.
func (c *Calibration) check() error {
	layers := make([]int, len(c.Models))
	for i := range c.Models {
		layers[i] = len(c.Models[i].Layers)
	}
	for i := range c.Candidates {
		if err := c.Candidates[i].Check(layers); err != nil {
			return err
		}
	}
	return nil
}

// Save keeps the calibration in the folder, and only the newest of others.
func (c *Calibration) Save(folder string) error {
	if folder == "" {
		return nil
	}
	if err := document.Write(c.path(folder), kind, version, c); err != nil {
		return err
	}
	for i, path := range kept(folder) {
		if i >= maxKept {
			os.Remove(path) // if it can be: nothing hangs on it
		}
	}
	return nil
}

func (c *Calibration) path(folder string) string { return filepath.Join(folder, c.key+".json") }

// kept are the files of calibrations, the newest first.
func kept(folder string) []string {
	files, _ := filepath.Glob(filepath.Join(folder, "*.json"))
	at := map[string]time.Time{}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			at[f] = info.ModTime()
		}
	}
	slices.SortFunc(files, func(a, b string) int { return at[b].Compare(at[a]) })
	return files
}

// Kept are the calibrations that are kept in a folder, the newest first.
func Kept(folder string) (out []*Calibration) {
	if folder == "" {
		return nil
	}
	for _, path := range kept(folder) {
		c := &Calibration{key: strings.TrimSuffix(filepath.Base(path), ".json")}
		if c.Load(folder) {
			out = append(out, c)
		}
	}
	return out
}
