package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/cmd/terastal/internal/doctor"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
)

func newDoctor(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this machine offers, what is missing and how to fix it",
		Long: `Shows the ONNX Runtime library that is used, the execution providers that
really open on this machine (each is tried, in another process), the cores,
GPUs and drivers, and the accelerators that "auto" stands for in a configuration.
For what is missing it names the command that fixes it.

Exits with 1 when ONNX Runtime cannot be used.`,
		Example: `  terastal doctor
  terastal doctor --json | jq '.providers[] | select(.opens) | .name'
  terastal doctor --ort ~/lib/libonnxruntime.so.1.29.0`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plugins, err := s.plugins()
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
			if err := errors.Join(report.Write(s.text()), s.document(report)); err != nil {
				return err
			}
			if !report.OK {
				return errors.New("ONNX Runtime cannot be used: see above")
			}
			return nil
		},
	}
	cmd.AddCommand(newDoctorProbe(s), newDoctorInspect(s))
	return cmd
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
