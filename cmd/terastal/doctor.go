package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/cmd/terastal/internal/doctor"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct{ profile, config string }

// examined is the document of doctor, with the judgement on the accelerators where they were measured.
type examined struct {
	doctor.Report
	Skew *session.Skew `json:"skew,omitempty"`
}

func newDoctor(s *streams) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this machine offers, what is missing and how to fix it",
		Long: `Shows the ONNX Runtime library that is used, the execution providers that
really open on this machine (each is tried, in another process), the cores,
GPUs and drivers, and the accelerators that "auto" stands for in a configuration.
For what is missing it names the command that fixes it.

It also says how unlike the accelerators are that "auto" chose last, by its calibration,
or those of a profile or plan (--profile FILE), and whether choosing one for every layer
is worth something there: "terastal profile show" says the same, with the layers. Rates
and deadlines are those of the plan, also next to the profile, or of --config FILE.

Exits with 1 when ONNX Runtime cannot be used.`,
		Example: `  terastal doctor
  terastal doctor --profile out/profile.json
  terastal doctor --json | jq '.providers[] | select(.opens) | .name'
  terastal doctor --ort ~/lib/libonnxruntime.so.1.29.0`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(s, cmd) },
	}
	cmd.Flags().StringVar(&o.profile, "profile", "", "profile or plan to judge the accelerators by")
	configFlag(cmd, &o.config)
	cmd.AddCommand(newDoctorProbe(s), newDoctorInspect(s))
	return cmd
}

func (o *doctorOptions) run(s *streams, cmd *cobra.Command) error {
	plugins, err := s.plugins()
	if err != nil {
		return err
	}
	skew, err := o.skew(cmd)
	if err != nil {
		return err
	}
	report := doctor.Check(cmd.Context(), doctor.Options{
		Library: s.ort,
		Host:    hostinfo.Read(hostinfo.This()),
		Probe:   doctor.Child(doctor.ProbeTimeout, doctor.Self),
		Inspect: doctor.InspectChild(doctor.ProbeTimeout, doctor.SelfInspect),
		Plugins: plugins, Installed: ort.Installed,
		Calibrations: auto.Kept(ort.CalibrationsDir()),
	})
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	if err := report.Write(s.text()); err != nil {
		return err
	}
	if skew == nil {
		skew = ofCalibration(s, report.Calibrations)
	}
	if skew != nil {
		view.Hopeless(s.text(), skew.Hopeless)
	}
	view.Skew(s.text(), skew)
	if err := s.document(examined{report, skew}); err != nil {
		return err
	}
	if !report.OK {
		return errors.New("ONNX Runtime cannot be used: see above")
	}
	return nil
}

// ofCalibration judges the accelerators that "auto" chose last, by what it measured; nil where it never did.
func ofCalibration(s *streams, kept []*auto.Calibration) *session.Skew {
	for _, c := range kept {
		p := c.Profile()
		if p == nil {
			continue
		}
		skew, err := session.ProfileSkew(p)
		if err != nil { // what is kept can be made again
			return nil
		}
		fmt.Fprintf(s.text(), "\nBy the calibration of %s, a glance of %v:\n", c.Created, c.Took.Round(100*time.Millisecond))
		return skew
	}
	return nil
}

// skew judges the accelerators of the profile; nil without one.
func (o *doctorOptions) skew(cmd *cobra.Command) (*session.Skew, error) {
	if o.profile == "" {
		if o.config != "" {
			return nil, usagef("`doctor --config` says at which rates a profile is judged: add --profile FILE")
		}
		return nil, nil
	}
	g, err := session.ReadGiven(o.profile)
	if err != nil {
		return nil, err
	}
	return judged(g, planOf(g), o.config, cmd.Flags())
}

// newDoctorProbe is what doctor runs in another process for each provider and device.
func newDoctorProbe(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:    "probe ACCELERATOR",
		Short:  "Open one accelerator, given as JSON, or fail with the reason",
		Hidden: true,
		Args:   exactArgs("ACCELERATOR"),
		RunE:   func(_ *cobra.Command, args []string) error { return doctor.Serve(s.ort, args[0], s.out) },
	}
}

// newDoctorInspect is what doctor runs in another process for each plugin.
func newDoctorInspect(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:    "inspect PROVIDER PLUGIN",
		Short:  "Write what ONNX Runtime was built with and what a plugin offers, as JSON",
		Hidden: true,
		Args:   exactArgs("PROVIDER", "PLUGIN"),
		RunE: func(_ *cobra.Command, args []string) error {
			i, err := doctor.Inspect(s.ort, args[0], args[1])
			if err != nil {
				return err
			}
			return json.NewEncoder(s.out).Encode(i)
		},
	}
}
