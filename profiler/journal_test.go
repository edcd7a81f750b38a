package profiler

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/terastal/terastal/runtime"
	"pgregory.net/rapid"
)

// Whatever a journal holds, reading and replaying it ends with a result or an error, and what is read up to is whole
// lines.
func FuzzJournal(f *testing.F) {
	line := func(s string) string { return sum([]byte(s)) + " " + s + "\n" }
	head := line(fmt.Sprintf(`{"terastal_profile_journal":%d,"key":"k","created":"now"}`, journalVersion))
	places := line(`{"k":0,"places":[{"do":"layer","model":0},{"do":"chain","model":0}]}`)
	f.Add([]byte(head + places + line(`{"k":0,"at":[0,1],"times_ns":"5 6"}`) + line(`{"k":0,"at":[0],"times_ns":"5","busy":1}`)))
	f.Add([]byte(head + line(`{"k":0,"failed":{"do":"layer","model":0,"reason":"x"}}`) + line(`{"k":1,"gaps_ns":"1"}`)))
	f.Add([]byte(head + line(`{"k":0,"at":[7],"times_ns":"5"}`)))
	f.Add([]byte(head[:20]))
	f.Fuzz(func(t *testing.T, data []byte) {
		was, entries, size, err := readJournal(bytes.NewReader(data))
		if err != nil {
			return
		}
		if size > int64(len(data)) || size > 0 && data[size-1] != '\n' || (was == nil) != (size == 0) {
			t.Fatalf("whole lines up to %d of %d bytes, heading %v", size, len(data), was)
		}
		m := &measurement{Task: Task{Accelerators: make([]runtime.Spec, 2)}}
		d := newDriver(m, 0)
		for _, e := range entries {
			if d.take(e) != nil {
				return
			}
		}
		m.of = []*driver{d, newDriver(m, 1)}
		d.chains(0)
		d.interference(0)
		d.describe()
		for _, p := range d.known {
			d.cell(p)
		}
	})
}

// A round has every wanted place once, layers of a model in rising order within a piece, and is not always in the same
// order.
func TestShuffled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var places []place
		for m := range rapid.IntRange(1, 3).Draw(t, "models") {
			for l := range rapid.IntRange(1, 40).Draw(t, "layers") {
				for i := rapid.IntRange(0, 2).Draw(t, "variants"); i >= 0; i-- {
					places = append(places, place{Do: layerRun, Model: m, Layer: l, Implementation: i})
				}
			}
			places = append(places, place{Do: conversion, Model: m}, place{Do: chainRun, Model: m})
		}
		wanted := func(p place) bool { return p.Do != chainRun && p.Layer%7 != 6 }
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		order := shuffled(places, wanted, rng)
		var all []int
		for i, p := range places {
			if wanted(p) {
				all = append(all, i)
			}
		}
		if got := slices.Sorted(slices.Values(order)); !slices.Equal(got, all) {
			t.Fatalf("%v is not an order of %v", order, all)
		}
		// A layer's implementations stay together, the original last.
		for n, i := range order {
			p := places[i]
			if p.Do == layerRun && p.Implementation > 0 {
				if n+1 == len(order) || places[order[n+1]] != (place{Do: layerRun, Model: p.Model, Layer: p.Layer,
					Implementation: p.Implementation - 1}) {
					t.Fatalf("after %+v comes something else in %v", p, order)
				}
			}
		}
	})
	places := make([]place, 100)
	for l := range places {
		places[l] = place{Do: layerRun, Layer: l}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	every := func(place) bool { return true }
	one, two := shuffled(places, every, rng), shuffled(places, every, rng)
	breaks := 0
	for n := 1; n < len(one); n++ {
		if one[n] != one[n-1]+1 {
			breaks++
		}
	}
	if slices.Equal(one, two) || breaks < 5 || breaks > 40 {
		t.Errorf("two rounds: %v and %v, %d breaks in the first", one, two, breaks)
	}
}
