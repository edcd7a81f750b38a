package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/doctor"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/runtime"
)

// configFlag defines --config.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "YAML file that names accelerators, models and traffic")
}

// open opens what a configuration names; profile is where its profile is or will be, if not in its output folder.
func (s *streams) open(cmd *cobra.Command, c *config.Config, profile string) (*session.Workspace, error) {
	o, err := s.options(cmd.Context(), profile)
	if err != nil {
		return nil, err
	}
	return session.Open(cmd.Context(), c, o)
}

// openConfig opens a configuration.
func (s *streams) openConfig(cmd *cobra.Command, file string) (*session.Workspace, error) {
	if file == "" {
		return nil, usagef("`%s` needs --config FILE", cmd.CommandPath())
	}
	c, err := config.Load(file, cmd.Flags())
	if err != nil {
		return nil, err
	}
	return s.open(cmd, c, "")
}

// options connect a session with this program: its flags, its terminal, and itself as the program of other processes.
func (s *streams) options(ctx context.Context, profile string) (session.Options, error) {
	plugins, err := s.plugins()
	return session.Options{
		Profile: profile,
		ORT:     s.ort,
		Root:    s.models,
		Plugins: plugins,
		Worker:  func() *exec.Cmd { return exec.Command(doctor.Program(), "profile", "worker") },
		Probe: func(library string, a runtime.Spec) (runtime.Offer, error) {
			return doctor.Child(doctor.ProbeTimeout, doctor.Self)(ctx, library, a)
		},
		Progress: s.progress,
		Note:     func(format string, args ...any) { fmt.Fprintf(s.err, format+"\n", args...) },
	}, err
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
