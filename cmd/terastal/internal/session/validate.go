package session

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/validation"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// ValidateOptions name the files of a validation.
type ValidateOptions struct {
	// Logs are event logs, or folders whose logs of real runs are meant.
	Logs []string
	// Profile predicts layer times; empty means profile.json next to each log, or
	// what the log expected where that does not exist.
	Profile string
	// Layers and Jobs, if not empty, are somebody else's predictions.
	Layers, Jobs string
	// Draws is how many simulations predict each run; zero is the default.
	Draws int
	// Write is where the validation goes; empty means validation.json next to the first log.
	Write string
	// Progress shows long work.
	Progress func(what string) Meter
}

// Validate holds real runs against predictions of them, and writes what came of it to a file, which it names.
func Validate(o ValidateOptions) (*validation.Document, string, error) {
	d, err := o.validate()
	if err != nil {
		return nil, "", err
	}
	path := cmp.Or(o.Write, filepath.Join(filepath.Dir(d.Validations[0].Log), "validation.json"))
	return d, path, d.Write(path)
}

func (o *ValidateOptions) validate() (*validation.Document, error) {
	paths, err := realLogs(o.Logs)
	if err != nil {
		return nil, err
	}
	var jobs []validation.JobPrediction
	if o.Jobs != "" {
		if len(paths) > 1 {
			return nil, fmt.Errorf("predicted requests are of one run, and there are %d logs: give one", len(paths))
		}
		if jobs, err = readFile(o.Jobs, validation.ReadJobs); err != nil {
			return nil, err
		}
	}
	var layers []validation.LayerPrediction
	if o.Layers != "" {
		if layers, err = readFile(o.Layers, validation.ReadLayers); err != nil {
			return nil, err
		}
	}
	d := &validation.Document{}
	meter := o.Progress("validating")
	defer meter.Done()
	for i, path := range paths {
		log, err := eventlog.Read(path)
		if err != nil {
			return nil, err
		}
		if err := validation.Comparable(log); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, t := range log.Header.Taken {
			d.Note("others took a core of %s during %s, which the run measured and predictions count in",
				log.Header.System.Accelerators[t.Accelerator], filepath.Base(path))
		}
		in := validation.Input{Log: log, Path: path, Jobs: jobs, Draws: o.Draws}
		if o.Layers != "" {
			in.Predictor, err = validation.FromLayers(filepath.Base(o.Layers), layers, log)
		} else {
			in.Predictor, err = o.predictor(d, path, log)
		}
		if err != nil {
			return nil, err
		}
		v, err := validation.Validate(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if o.Jobs != "" {
			v.Predictor = strings.Join([]string{v.Predictor, filepath.Base(o.Jobs)}, ", ")
		}
		d.Add(v, log)
		meter.Set(float64(i+1) / float64(len(paths)))
	}
	return d, nil
}

// predictor reads the profile of a log.
func (o *ValidateOptions) predictor(d *validation.Document, path string,
	log *eventlog.Log) (*validation.Predictor, error) {
	name := cmp.Or(o.Profile, filepath.Join(filepath.Dir(path), "profile.json"))
	g, err := ReadGiven(name)
	if o.Profile == "" && errors.Is(err, fs.ErrNotExist) {
		g, err = ReadGiven(name + document.Gzipped)
	}
	if o.Profile == "" && errors.Is(err, fs.ErrNotExist) {
		d.Note("there is no profile next to %s: layers are predicted to take what decisions expected, every time; "+
			"--profile names another", path)
		return validation.FromSystem(&log.Header.System), nil
	}
	if err != nil {
		return nil, err
	}
	p, name := g.Profile, g.Path
	predictor, err := validation.FromProfile(p, &log.Header.System)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w: name the profile that the run was made with (--profile)", name, err)
	}
	d.Profile = name
	if !validation.SameProfile(p, &log.Header.System) {
		d.Note("%s was not made with %s but with another profile of the same layers", path, name)
	}
	return predictor, nil
}

// readFile parses a file of predictions.
func readFile[T any](path string, parse func(string, io.Reader) ([]T, error)) ([]T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("predictions: %w", err)
	}
	defer f.Close()
	return parse(path, f)
}

// realLogs replaces folders by the logs in them, those of simulations and of unscheduled runs left out.
func realLogs(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			out = append(out, path) // reading it says what is wrong
			continue
		}
		found, err := filepath.Glob(filepath.Join(path, "*.log.json"))
		if err != nil {
			return nil, fmt.Errorf("folder %s: %w", path, err)
		}
		packed, _ := filepath.Glob(filepath.Join(path, "*.log.json"+document.Gzipped))
		found = append(found, packed...)
		n := len(out)
		for _, f := range found {
			name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(f), document.Gzipped), ".log.json")
			// What follows a dot tells repeats apart; see turn.stem.
			policy, _, _ := strings.Cut(name, ".")
			if !runtime.IsUnscheduled(policy) && !strings.Contains(name, "-simulated") {
				out = append(out, f)
			}
		}
		if len(out) == n {
			return nil, fmt.Errorf("folder %s has no log of a real run (POLICY.log.json): make one with `terastal run --out %s`",
				path, path)
		}
	}
	return out, nil
}
