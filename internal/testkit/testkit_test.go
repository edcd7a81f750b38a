package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// seen records what a check says; Fatal continues.
type seen []string

func (*seen) Fatalf(string, ...any)       {}
func (*seen) Helper()                     {}
func (s *seen) Fatal(args ...any)         { *s = append(*s, "fatal: "+fmt.Sprint(args...)) }
func (s *seen) Errorf(f string, a ...any) { *s = append(*s, fmt.Sprintf(f, a...)) }

func TestChecks(t *testing.T) {
	gone := fmt.Errorf("plan.json: %w", fs.ErrNotExist)
	for want, check := range map[string]func(T){
		"":                 func(t T) { OK(t, nil); Fails(t, gone, fs.ErrNotExist, "plan.json"); Says(t, nil, "") },
		"want none":        func(t T) { Says(t, gone, "") },
		"no error, want":   func(t T) { Says(t, nil, "x") },
		"-want +got":       func(t T) { Equal(t, 1, 2) },
		"fatal: plan.json": func(t T) { OK(t, gone) },
		"fatal: plan":      func(t T) { Must(1, gone)(t) },
		"fatal: pla":       func(t T) { Must2(1, 2, gone)(t) },
		"no error":         func(t T) { Fails(t, nil, "x") },
		"does not say":     func(t T) { Refused(1, gone)(t, "profile.json") },
		"does not wrap":    func(t T) { Refused2(1, 2, gone)(t, fs.ErrClosed) },
		"several lines":    func(t T) { Fails(t, errors.New("a\nb"), "a") },
		"fatal: mkdir":     func(t T) { Write(t, os.DevNull+"/file", "") },
	} {
		var got seen
		check(&got)
		if all := strings.Join(got, "; "); !strings.Contains(all, want) || want == "" && all != "" {
			t.Errorf("got %q, want %q", all, want)
		}
	}
}
