package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/terastal/terastal/profiler"
)

// InTheWay says what to do with a profile of something else that lies where a new one goes.
type InTheWay int

const (
	// Refuse leaves it, and is an error.
	Refuse InTheWay = iota
	// MoveAside renames it.
	MoveAside
	// Replace overwrites it, and starts over where a measurement was not finished.
	Replace
)

// ErrInTheWay is wrapped when a file would have to be overwritten that holds something else.
var ErrInTheWay = errors.New("it is not overwritten")

// Measure profiles all layers and writes the profile to its file, which it names. It continues a measurement that was
// not finished. When ctx ends, what there is is written, and the error says so.
func (w *Workspace) Measure(ctx context.Context, in InTheWay) (path string, err error) {
	path = w.profilePath()
	return path, w.measureTo(ctx, path, in)
}

func (w *Workspace) measureTo(ctx context.Context, path string, in InTheWay) error {
	if in == Replace {
		if err := profiler.RemoveJournal(journal(path)); err != nil {
			return err
		}
	} else if err := w.clear(path, in); err != nil {
		return err
	}
	p, err := w.bench().measure(ctx, w.networks(), 1, journal(path), nil)
	switch {
	case errors.Is(err, profiler.ErrJournal) && in == MoveAside:
		w.options.Note("starting over: %v", err)
		return w.measureTo(ctx, path, Replace)
	case p == nil:
		return err
	case err == nil:
		return w.keep(p, path)
	}
	w.Profile = p
	if written := p.Write(path); written != nil {
		return written
	}
	return fmt.Errorf("%w: what was measured is in %s; the same command continues from there", err, path)
}

// clear makes room for a profile, unless the one that is there is of the same.
func (w *Workspace) clear(path string, in InTheWay) error {
	p, err := profiler.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if err = w.bench().matches(p, w.networks()); err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", path, err)
	}
	if in == Refuse {
		return fmt.Errorf("%w: %w", err, ErrInTheWay)
	}
	aside, renamed := moveAside(path)
	if renamed == nil {
		w.options.Note("%v; moved it to %s", err, aside)
	}
	return renamed
}

// moveAside renames a file to the next free name.
func moveAside(path string) (string, error) {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.old%d", path, n)
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, os.Rename(path, aside)
		}
	}
}

func journal(path string) string { return path + ".journal" }

// keep uses a profile and writes it to its file.
func (w *Workspace) keep(p *profiler.Profile, path string) error {
	w.Profile = p
	if err := p.Write(path); err != nil {
		return err
	}
	for _, x := range p.Warnings {
		w.options.Note("warning: %s", x.Text)
	}
	return profiler.RemoveJournal(journal(path))
}

// loadProfile uses the profile at path if it fits what is open and is whole. A
// profile that does not is refused and left as it is.
func (w *Workspace) loadProfile(path string) error {
	p, err := profiler.Read(path)
	if err != nil {
		return err
	}
	if err := w.bench().matches(p, w.networks()); err != nil {
		return fmt.Errorf("%s: %w: measure again with `terastal profile`", path, err)
	}
	if p.Partial {
		return fmt.Errorf("%s: %w: complete it with `terastal profile`", path, profiler.ErrPartial)
	}
	w.Profile = p
	return nil
}

// EnsureProfile uses the profile of the options or of the output folder, or measures one and writes it there if the
// file does not exist. One that is stale, damaged or partial is refused when the options named it; one that an earlier
// run left is moved aside, or completed.
func (w *Workspace) EnsureProfile(ctx context.Context) error {
	return w.ensureProfile(ctx, w.profilePath(), w.options.Profile != "")
}

func (w *Workspace) ensureProfile(ctx context.Context, path string, named bool) error {
	if err := w.Variants.ProveAgain(ctx); err != nil {
		return err
	}
	err := w.loadProfile(path)
	switch {
	case err == nil:
		w.options.Note("using the profile %s of %s", path, w.Profile.Created)
		return nil
	case named && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return w.measureTo(ctx, path, MoveAside)
}
