package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/inspect"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newModelsList(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the built-in networks",
		Example: `  terastal models list
  terastal models list --json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := inspect.Networks()
			if err != nil {
				return err
			}
			view.Networks(s.text(), list)
			return s.document(map[string]any{"networks": list})
		},
	}
}
