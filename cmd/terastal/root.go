package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/runtime"
)

// Exit codes, as documented in `terastal --help`.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitInvalid = 3
)

// usagef formats an error of the command line: the user can fix it by editing what they typed.
func usagef(format string, args ...any) error { return session.Usagef(format, args...) }

// invalidError marks a run that finished but cannot support its claim.
type invalidError struct{ reasons []string }

func (e invalidError) Error() string {
	return "the run is INVALID: " + strings.Join(e.reasons, "; ")
}

func invalid(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	return invalidError{reasons}
}

func exitCode(err error) int {
	var usage session.UsageError
	var invalid invalidError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage), errors.Is(err, config.ErrInvalid), errors.Is(err, runtime.ErrSpec):
		return exitUsage
	case errors.As(err, &invalid):
		return exitInvalid
	}
	return exitFailed
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := newRoot(&streams{out: stdout, err: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func newRoot(s *streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "terastal",
		Short: "Run several neural networks at once, layer by layer, on CPU and GPU accelerators",
		Long: `Terastal runs several ONNX models at once, each with a rate and a deadline, on
the execution providers of ONNX Runtime. Models are split into layers, every
layer is measured on every accelerator, and a scheduler moves requests layer by
layer so that fewer of them miss their deadlines.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 the run is INVALID
(it finished, but cannot support its claim; the reason is printed).`,
		Example: `  terastal doctor                      what this machine offers, what is missing
  terastal demo                        every step, on built-in networks
  terastal run --config my.yaml        your models, rates and deadlines
  terastal simulate --config my.yaml   the same in virtual time`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().BoolVar(&s.json, "json", false, "write one JSON document to stdout; human text goes to stderr")
	root.PersistentFlags().StringVar(&s.ort, "ort", "", "path of the ONNX Runtime shared library (default: found as "+
		"'terastal doctor' shows)")
	root.PersistentFlags().StringVar(&s.models, "models-dir", "",
		"folder that model files may be read from (default: the folder of the config file)")
	root.PersistentFlags().StringArrayVar(&s.plugin, "plugin", nil, "NAME=PATH of the library of an execution provider "+
		"(default: those that scripts/setup-onnxruntime.sh --with NAME installed; may be repeated)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w (see `%s --help`)", err, cmd.CommandPath())
	})
	root.AddCommand(newDemo(s), newDoctor(s), newModels(s), newProfile(s), newVariants(s), newPlan(s),
		newRun(s), newSimulate(s), newCompare(s), newSweep(s), newValidate(s), newReport(s))
	return root
}

// noArgs refuses positional arguments with a usage error that names the first.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("unknown command or argument %q for `%s` (see `%s --help`)", args[0], cmd.CommandPath(),
		cmd.CommandPath())
}

// exactArgs requires the named positional arguments.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usagef("`%s` takes %s, got %d arguments (see `%s --help`)", cmd.CommandPath(), strings.Join(names, " "),
			len(args), cmd.CommandPath())
	}
}

// atLeastOne requires one positional argument or more; what names them.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return usagef("`%s` needs at least one %s (see `%s --help`)", cmd.CommandPath(), what, cmd.CommandPath())
	}
}
