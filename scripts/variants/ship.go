package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/plan"
)

// ship writes the variants of a plan to folders that package models/zoo embeds, one a model: what the model is, and
// which variants there are, without what was measured on this machine.
func ship(path, folder string) error {
	p, _, err := plan.Read(path)
	if err != nil {
		return err
	}
	for _, v := range p.Variants {
		if len(v.Chosen) == 0 {
			continue
		}
		to := filepath.Join(folder, v.Model)
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		out := plan.Variants{Model: v.Model, SHA256: v.SHA256, Granularity: v.Granularity, Bytes: v.Bytes}
		for _, c := range v.Chosen {
			data, err := os.ReadFile(filepath.Join(filepath.Dir(path), c.File))
			if err != nil {
				return err
			}
			name := filepath.Base(c.File)
			c.File, c.Alone, c.Latency, c.Original, c.Wanted, c.Frontier = name, 0, nil, nil, nil, false
			out.Chosen = append(out.Chosen, c)
			if err := document.WriteFile(filepath.Join(to, name), data); err != nil {
				return err
			}
		}
		data, err := json.MarshalIndent(out, "", "  ")
		if err != nil {
			return err
		}
		if err := document.WriteFile(filepath.Join(to, "variants.json"), append(data, '\n')); err != nil {
			return err
		}
	}
	return nil
}
