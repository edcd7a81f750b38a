package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/doctor"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/runtime"
)

// configFlag defines --config.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "YAML file that names accelerators, models and traffic")
}

// openFlow opens what the configuration names; profile is where its profile is
// or will be, if not in its output folder.
func (s *streams) openFlow(ctx context.Context, c *config.Config, profile string) (*session.Flow, error) {
	plugins, err := s.plugins()
	if err != nil {
		return nil, err
	}
	o := s.flowOptions(ctx, c, profile)
	o.Plugins = plugins
	return session.Open(c, o)
}

// plugins are the libraries given with --plugin, by the providers' names.
func (s *streams) plugins() (map[string]string, error) {
	out := map[string]string{}
	for _, text := range s.plugin {
		name, path, ok := strings.Cut(text, "=")
		name = ort.ProviderName(strings.TrimSpace(name))
		if !ok || path == "" || name == "cpu" {
			return nil, usagef("--plugin %q is not of the form NAME=PATH", text)
		}
		if _, twice := out[name]; twice {
			return nil, usagef("--plugin names the provider %q twice", name)
		}
		whole, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("--plugin %s: %w", text, err)
		}
		if info, err := os.Stat(whole); err != nil || !info.Mode().IsRegular() {
			return nil, usagef("--plugin %s: there is no such file", text)
		}
		out[name] = whole
	}
	return out, nil
}

func (s *streams) flowOptions(ctx context.Context, c *config.Config, profile string) session.Options {
	return session.Options{
		Profile: profile,
		Engines: ort.EnginesDir(),
		ORT:     s.ort,
		Root:    s.models,
		Resolve: func(source string) (string, error) {
			if strings.HasPrefix(source, zooPrefix) {
				return source, nil
			}
			return c.Path(source, s.models)
		},
		Open: openModel,
		Worker: func() (*exec.Cmd, error) {
			exe, err := os.Executable()
			if err != nil {
				return nil, fmt.Errorf("finding this program's own file to measure with: %w", err)
			}
			return exec.Command(exe, "profile", "worker"), nil
		},
		Auto: func(library string, host hostinfo.Info) ([]runtime.Spec, error) {
			return doctor.Accelerators(ctx, library, host)
		},
		Probe: func(library string, a runtime.Spec) error {
			self, err := doctor.Self()
			if err != nil {
				return err
			}
			return doctor.Child(doctor.ProbeTimeout, self)(ctx, library, a)
		},
		Progress: s.progress,
		Note:     session.NoteTo(s.err),
	}
}

// progress shows a bar on a terminal and nothing elsewhere.
func (s *streams) progress(what string) session.Meter {
	if f, ok := s.err.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return session.Discard(what)
	}
	return &bar{progressbar.NewOptions(1000, progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription(fmt.Sprintf("%-28s", what)),
		progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100e6))}
}

type bar struct{ b *progressbar.ProgressBar }

func (b *bar) Set(share float64) { b.b.Set(int(share * 1000)) }
func (b *bar) Done()             { b.b.Finish() }

// printLines writes each line and returns the first error.
func printLines(w io.Writer, lines ...string) error {
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}
